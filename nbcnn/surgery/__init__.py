"""Changing a network: graph edits that keep names, doc strings and metadata of all that they do not change.

Every function takes a source graph, or a model (whose present weights count), and returns a new graph; what it was
given stays as it is. Model has a method for each.
"""

from __future__ import annotations

from nbcnn.surgery.batch import set_batch
from nbcnn.surgery.batch_norm import fold_batch_norm
from nbcnn.surgery.cut import cut
from nbcnn.surgery.fully_conv import convert_fc_to_conv
from nbcnn.surgery.head import Head, find_head, new_head
from nbcnn.surgery.rename import rename

__all__ = ["Head", "convert_fc_to_conv", "cut", "find_head", "fold_batch_norm", "new_head", "rename", "set_batch"]
