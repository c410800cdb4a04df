"""Numbers of axes, as files give them."""

from __future__ import annotations

from nbcnn.errors import ModelError
from nbcnn.graph import Node

__all__ = ["axis_of"]


def axis_of(node: Node, axis: int, rank: int) -> int:
    """The axis, counted from the front; raises ModelError where a tensor of this rank has none such."""
    if not -rank <= axis < rank:
        raise ModelError(f"{node.label}: axis {axis} is outside a tensor of {rank} dimensions")
    return axis % rank
