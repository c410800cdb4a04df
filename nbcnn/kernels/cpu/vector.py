"""The product of one row by packed weights: Gemm for a single sample, where each weight is read once.

The register tiles of other products would be empty but for one row. Here a tile is several steps of the depth of one
panel, so that neighbouring additions do not wait for each other.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu import lane_tile, simd, tile
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.tiling import PANEL_VECS

__all__ = ["vector_product"]

STEPS = 4
"""Steps of the depth in a tile."""


@serial
def _panel(acc, row, x, w, bias, residual, y, at, column, dims, low, high):
    """The output channels of one panel, whose weights begin at `at`."""
    depth, channels = dims
    lanes = simd.lanes(y)
    width = len(row) * lanes
    whole = depth - depth % STEPS
    for c in range(0, whole, STEPS):
        acc = lane_tile.fma_steps(acc, row, x, c, w, at + c * width)
    last = row
    for c in range(whole, depth):
        last = lane_tile.fma_steps(last, row, x, c, w, at + c * width)
    sums = lane_tile.sum_rows(acc, last)
    for v in range(len(row)):
        place = column + v * lanes
        left = channels - place
        if left <= 0:
            break
        value = lane_tile.pick(sums, v)
        if bias.size > 0:
            value = simd.add(value, simd.load_first(bias, place, left))
        if residual.size > 0:
            value = simd.add(value, simd.load_first(residual, place, left))
        simd.store_first(y, place, simd.clamp(value, low, high), left)


@kernel
def vector_product(x, w, bias, residual, y, dims, low, high):
    """y = clamp(bias + residual + x times w, low, high), for one row.

    x (depth), y and residual (channels), bias (channels): flat; bias and residual may be empty, and the residual may be
    y itself. w: packed weights of one group. dims: (depth, channels).
    """
    depth, channels = dims
    lanes = simd.lanes(y)
    width = lanes if channels <= lanes else PANEL_VECS * lanes
    for index in prange((channels + width - 1) // width):
        panel = np.int64(index)
        at, column = panel * depth * width, panel * width
        if channels <= lanes:
            acc, row = tile.zeros(y, STEPS, 1), tile.zeros(y, 1, 1)
            _panel(acc, row, x, w, bias, residual, y, at, column, dims, low, high)
        else:
            wide, wide_row = tile.zeros(y, STEPS, PANEL_VECS), tile.zeros(y, 1, PANEL_VECS)
            _panel(wide, wide_row, x, w, bias, residual, y, at, column, dims, low, high)
