"""Change of memory order: many matrices transposed, blockwise."""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = ["transpose_matrices"]

TILE = 16


@serial
def _transpose_rows(x, y, start, rows, columns, row0, row1):
    """y[c, r] = x[r, c] for rows row0..row1 of the matrix at `start`."""
    for column0 in range(0, columns, TILE):
        column1 = min(column0 + TILE, columns)
        for c in range(column0, column1):
            for r in range(row0, row1):
                y[start + c * rows + r] = x[start + r * columns + c]


@kernel
def transpose_matrices(x, y, shape):
    """y (count, columns, rows) = x (count, rows, columns), each matrix transposed. shape: (count, rows, columns)."""
    count, rows, columns = shape
    strips = (rows + TILE - 1) // TILE
    for index in prange(count * strips):
        task = np.int64(index)
        row0 = task % strips * TILE
        start = task // strips * rows * columns
        _transpose_rows(x, y, start, rows, columns, row0, min(row0 + TILE, rows))
