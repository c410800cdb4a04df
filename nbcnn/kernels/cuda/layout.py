"""Change of memory order: many matrices transposed."""

from __future__ import annotations

from nbcnn.kernels.cuda.copy import copy_strided

__all__ = ["transpose_matrices"]


def transpose_matrices(x, y, shape):
    """y (count, columns, rows) = x (count, rows, columns), each matrix transposed. shape: (count, rows, columns)."""
    count, rows, columns = shape
    walked = (1, 1, 1, count, columns, rows)
    copy_strided(x, y, walked, 0, (0, 0, 0, rows * columns, 1, columns), 0, (0, 0, 0, rows * columns, rows, 1))
