"""The panels that weights are packed in, which are those of the CPU's kernels (nbcnn/kernels/cpu/tiling.py).

Weights of 16 bits lie in the *order of pairs*: two elements of the depth of a lane side by side, as one word of 32 bits
for tensor cores. The words lie as the elements of a panel of float32 do, with half its depth, which must be even.
"""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cpu.tiling import panel_width
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.unroll import inlined

__all__ = ["of_pairs", "panels_of", "place_in_panel"]


def panels_of(channels, w):
    """Width of the panels of w for so many output channels a group, and how many there are in a group."""
    width = panel_width(channels, np.dtype(w.dtype).itemsize)
    return width, -(-channels // width)


@inlined
def place_in_panel(k, lane, width, paired):
    """Where element k of a lane's depth lies, from where a tap of a panel begins. paired: in the order of pairs."""
    return 2 * ((k >> 1) * width + lane) + (k & 1) if paired else k * width + lane


@inlined
def of_pairs(i, width):
    """What lies at element i of panels in the order of pairs, by its number in those without."""
    word = i >> 1
    return (2 * divide(word, width) + (i & 1)) * width + remainder(word, width)
