"""The panels that weights are packed in, which are those of the CPU's kernels (nbcnn/kernels/cpu/tiling.py)."""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cpu.tiling import panel_width

__all__ = ["panels_of"]


def panels_of(channels, w):
    """Width of the panels of w for so many output channels a group, and how many there are in a group."""
    width = panel_width(channels, np.dtype(w.dtype).itemsize)
    return width, -(-channels // width)
