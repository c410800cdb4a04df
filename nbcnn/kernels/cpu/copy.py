"""Copies between two arrays that are walked with strides (to transpose, slice, join, pad, broadcast), and filling."""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = ["copy_strided", "fill"]

TILE = 16
"""Where x is not read along its own lines, tiles of this many rows and columns keep both sides in the L1 cache."""
BLOCK = 4096
"""Elements that one task is worth."""


@serial
def _copy_lines(x, y, x_at, y_at, rows, columns, x_row, y_row):
    """Lines that are contiguous on both sides."""
    for r in range(rows):
        # Slices, because an index that might be negative keeps the compiler from vectorizing.
        source = x[x_at + r * x_row : x_at + r * x_row + columns]
        target = y[y_at + r * y_row : y_at + r * y_row + columns]
        for c in range(columns):
            target[c] = source[c]


@serial
def _copy_tiles(x, y, x_at, y_at, rows, columns, x_steps, y_steps):
    for column in range(0, columns, TILE):
        last = min(column + TILE, columns)
        for r in range(rows):
            source, target = x_at + r * x_steps[0], y_at + r * y_steps[0]
            for c in range(column, last):
                y[target + c * y_steps[1]] = x[source + c * x_steps[1]]


@serial
def _copy_task(task, x, y, shape, x_start, x_strides, y_start, y_strides, strips, strip, chunks):
    """One strip of rows and chunk of columns of one position of the outer axes."""
    column = task % chunks * BLOCK
    row = task // chunks % strips * strip
    rest = task // chunks // strips
    x_at = x_start + row * x_strides[4] + column * x_strides[5]
    y_at = y_start + row * y_strides[4] + column * y_strides[5]
    for axis in range(3, -1, -1):
        x_at += rest % shape[axis] * x_strides[axis]
        y_at += rest % shape[axis] * y_strides[axis]
        rest //= shape[axis]
    rows, columns = min(strip, shape[4] - row), min(BLOCK, shape[5] - column)
    if x_strides[5] == 1 and y_strides[5] == 1:
        _copy_lines(x, y, x_at, y_at, rows, columns, x_strides[4], y_strides[4])
    else:
        x_steps, y_steps = (x_strides[4], x_strides[5]), (y_strides[4], y_strides[5])
        _copy_tiles(x, y, x_at, y_at, rows, columns, x_steps, y_steps)


@kernel
def copy_strided(x, y, shape, x_start, x_strides, y_start, y_strides):
    """y[y_start + sum(i * y_strides)] = x[x_start + sum(i * x_strides)] for each index i below shape; y keeps the rest.

    shape, x_strides, y_strides: six integers each. Strides count elements; those of x may be negative or zero. The last
    axis should be the one along which y is contiguous, the last but one that along which x is, where that is another.
    x may have another element type.
    """
    tiled = (x_strides[5] != 1 or y_strides[5] != 1) and shape[5] >= TILE
    strip = TILE if tiled else max(BLOCK // max(shape[5], 1), 1)
    strips = (shape[4] + strip - 1) // strip
    chunks = (shape[5] + BLOCK - 1) // BLOCK
    for index in prange(shape[0] * shape[1] * shape[2] * shape[3] * strips * chunks):
        task = np.int64(index)
        _copy_task(task, x, y, shape, x_start, x_strides, y_start, y_strides, strips, strip, chunks)


@kernel
def fill(y, value):
    """Every element of y = value."""
    for index in prange((y.size + BLOCK - 1) // BLOCK):
        block = np.int64(index)
        y[block * BLOCK : (block + 1) * BLOCK] = value
