"""Reading and writing rows at places that indices tell: Gather, GatherElements, GatherND, and the Scatter operators."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.opcodes import ADD, CLEAR, MAX, MUL, PUT

__all__ = ["gather_rows", "index_offsets", "scatter_rows"]

BLOCK = 4096
"""Elements that one task is worth."""


@serial
def _offset(number, indices, shape, moves, sizes, strides):
    """Where the row of one index tuple begins; -1 where an index is outside of its axis."""
    at = 0
    for k in range(sizes.size):
        index = np.int64(indices[number * sizes.size + k])
        if index < 0:
            index += sizes[k]
        if index < 0 or index >= sizes[k]:
            return -1
        at += index * strides[k]
    for axis in range(5, -1, -1):
        at += number % shape[axis] * moves[axis]
        number //= shape[axis]
    return at


@kernel
def index_offsets(indices, offsets, bad, shape, moves, sizes, strides):
    """offsets (prod(shape),) = what index tuples stand for, in elements; bad (1,) = 1 if one leaves its axis, else 0.

    indices: tuples of sizes.size integers, negative ones counted from the end. shape, moves: six integers each, the
    shape that the tuples have, and what is added for each step along it. sizes, strides: of the axes they count.
    """
    bad[0] = 0
    for index in prange((offsets.size + BLOCK - 1) // BLOCK):
        start = np.int64(index) * BLOCK
        for number in range(start, min(start + BLOCK, offsets.size)):
            offset = _offset(number, indices, shape, moves, sizes, strides)
            offsets[number] = offset
            if offset < 0:
                bad[0] = 1


@serial
def _copy_row(x, y):
    for i in range(y.size):
        y[i] = x[i]


@serial
def _gather_task(first, last, x, offsets, y, shape, pitch, offset_pitch, column, count):
    """Columns `column` and on of rows first..last of y."""
    _, rows, length = shape
    for row in range(first, last):
        block = row // rows
        at = block * pitch + offsets[block * offset_pitch + row % rows] + column
        place = row * length + column
        if count == 1:
            y[place] = x[at]
        else:
            _copy_row(x[at : at + count], y[place : place + count])


@kernel
def gather_rows(x, offsets, y, shape, pitch, offset_pitch):
    """y (outer, rows, length) = the elements of x from outer * pitch + offsets[outer * offset_pitch + rows] on.

    shape: (outer, rows, length).
    """
    total = shape[0] * shape[1]
    strip = max(BLOCK // max(shape[2], 1), 1)
    chunks = (shape[2] + BLOCK - 1) // BLOCK
    strips = (total + strip - 1) // strip
    for index in prange(strips * chunks):
        task = np.int64(index)
        column = task % chunks * BLOCK
        first = task // chunks * strip
        last = min(first + strip, total)
        _gather_task(first, last, x, offsets, y, shape, pitch, offset_pitch, column, min(BLOCK, shape[2] - column))


@serial
def _join(code, x, y):
    """y = y op x, element by element; NaN wins."""
    if code == PUT:
        for i in range(y.size):
            y[i] = x[i]
    elif code == ADD:
        for i in range(y.size):
            y[i] += x[i]
    elif code == MUL:
        for i in range(y.size):
            y[i] *= x[i]
    elif code == MAX:
        for i in range(y.size):
            y[i] = y[i] if (y[i] >= x[i]) | math.isnan(y[i]) else x[i]
    else:
        for i in range(y.size):
            y[i] = y[i] if (y[i] <= x[i]) | math.isnan(y[i]) else x[i]


@kernel
def scatter_rows(code, x, offsets, y, shape, pitch, offset_pitch):
    """y, from outer * pitch + offsets[outer * offset_pitch + row] on, is joined with the rows of x (outer, rows,
    length).

    code: PUT, CLEAR (0 is put there; x is not read), ADD, MUL, MAX, MIN. shape: (outer, rows, length). The rows of one
    `outer` are taken in order, so that sums do not depend on the threads; those of two must not meet.
    """
    outer, rows, length = shape
    chunks = (length + BLOCK - 1) // BLOCK
    for index in prange(outer * chunks):
        task = np.int64(index)
        column = task % chunks * BLOCK
        block = task // chunks
        count = min(BLOCK, length - column)
        for row in range(rows):
            at = block * pitch + offsets[block * offset_pitch + row] + column
            if code == CLEAR:
                y[at : at + count] = 0
            else:
                place = (block * rows + row) * length + column
                _join(code, x[place : place + count], y[at : at + count])
