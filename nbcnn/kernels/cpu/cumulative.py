"""Sums and products of all elements up to each."""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.opcodes import ADD

__all__ = ["accumulate"]

COLUMNS = 256
"""Neighbours in memory that one task takes along together."""


@serial
def _columns(code, x, y, at, rows, step, columns, exclusive, reverse):
    """`columns` neighbours, from row to row; rows lie `step` apart."""
    if reverse:
        at, step = at + (rows - 1) * step, -step
    start = x.dtype.type(0 if code == ADD else 1)
    for c in range(columns):
        y[at + c] = start if exclusive else x[at + c]
    for row in range(1, rows):
        here, before = at + row * step, at + (row - 1) * step
        source = before if exclusive else here
        for c in range(columns):
            total, v = y[before + c], x[source + c]
            y[here + c] = total + v if code == ADD else total * v


@kernel
def accumulate(code, x, y, shape, exclusive, reverse):
    """y[o, r, i] = x[o, 0, i] op ... op x[o, r, i]; x, y (outer, rows, inner).

    code: ADD or MUL. exclusive: leave out the last operand. reverse: from the last row on, backwards.
    """
    outer, rows, inner = shape
    strips = (inner + COLUMNS - 1) // COLUMNS
    for index in prange(outer * strips):
        task = np.int64(index)
        o, first = task // strips, task % strips * COLUMNS
        columns = min(COLUMNS, inner - first)
        _columns(code, x, y, o * rows * inner + first, rows, inner, columns, exclusive, reverse)
