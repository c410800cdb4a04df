"""Sums and products of all elements up to each."""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.opcodes import ADD

__all__ = ["accumulate", "accumulate_weighted"]

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


@serial
def _weighted_columns(w, x, y, at, rows, step, columns, exclusive, reverse):
    """As _columns: of the sum so far each row takes over what the weights of the row before leave of it."""
    if reverse:
        at, step = at + (rows - 1) * step, -step
    for c in range(columns):
        y[at + c] = x.dtype.type(0) if exclusive else x[at + c]
    for row in range(1, rows):
        here, before = at + row * step, at + (row - 1) * step
        source = before if exclusive else here
        for c in range(columns):
            y[here + c] = x[source + c] + w[before + c] * y[before + c]


@kernel
def accumulate_weighted(w, x, y, shape, exclusive, reverse):
    """y[o, r, i] = x[o, r, i] + w[o, r - 1, i] y[o, r - 1, i], from y[o, 0, i] = x[o, 0, i] on; all (outer, rows,
    inner).

    exclusive: x[o, r - 1, i] is added instead, to nothing at first. reverse: from the last row on, backwards.
    """
    outer, rows, inner = shape
    strips = (inner + COLUMNS - 1) // COLUMNS
    for index in prange(outer * strips):
        task = np.int64(index)
        o, first = task // strips, task % strips * COLUMNS
        columns = min(COLUMNS, inner - first)
        _weighted_columns(w, x, y, o * rows * inner + first, rows, inner, columns, exclusive, reverse)
