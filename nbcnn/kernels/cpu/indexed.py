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
LAST = 5
"""The axis of `shape` along which a run of index tuples goes."""


@serial
def _offsets_of_run(indices, offsets, start, stop, base, move, sizes, strides):
    """Neighbours along the last axis of the tuples' shape; returns whether an index leaves its axis."""
    bad = 0
    count = sizes.size
    if count == 1:
        size, stride = sizes[0], strides[0]
        # Slices, because an index that might be negative keeps the compiler from vectorizing.
        given, found = indices[start:stop], offsets[start:stop]
        for i in range(found.size):
            index = np.int64(given[i])
            index += size if index < 0 else 0
            bad |= (index < 0) | (index >= size)
            found[i] = base + i * move + index * stride
        return bad
    for number in range(start, stop):
        at = base + (number - start) * move
        for k in range(count):
            index = np.int64(indices[number * count + k])
            index += sizes[k] if index < 0 else 0
            bad |= (index < 0) | (index >= sizes[k])
            at += index * strides[k]
        offsets[number] = at
    return bad


@serial
def _offsets_of_block(indices, offsets, start, stop, shape, moves, sizes, strides):
    """Run by run; returns whether an index leaves its axis."""
    bad = 0
    while start < stop:
        number = start // shape[LAST]
        column = start - number * shape[LAST]
        end = min(start + shape[LAST] - column, stop)
        base = column * moves[LAST]
        for axis in range(LAST - 1, -1, -1):
            if shape[axis] > 1:
                base += number % shape[axis] * moves[axis]
                number //= shape[axis]
        bad |= _offsets_of_run(indices, offsets, start, end, base, moves[LAST], sizes, strides)
        start = end
    return bad


@kernel
def index_offsets(indices, offsets, bad, shape, moves, sizes, strides):
    """offsets (prod(shape),) = what index tuples stand for, in elements; bad (1,) = 1 if one leaves its axis, else 0.

    indices: tuples of sizes.size integers, negative ones counted from the end. shape, moves: six integers each, the
    shape that the tuples have, and what is added for each step along it. sizes, strides: of the axes they count.
    """
    bad[0] = 0
    for index in prange((offsets.size + BLOCK - 1) // BLOCK):
        start = np.int64(index) * BLOCK
        stop = min(start + BLOCK, offsets.size)
        if _offsets_of_block(indices, offsets, start, stop, shape, moves, sizes, strides):
            bad[0] = 1


@serial
def _copy_row(x, y):
    for i in range(y.size):
        y[i] = x[i]


@serial
def _gather_elements(x, offsets, y, base):
    """Rows of one element."""
    for i in range(y.size):
        y[i] = x[base + offsets[i]]


@serial
def _gather_task(first, last, x, offsets, y, shape, pitch, offset_pitch, column, count):
    """Columns `column` and on of rows first..last of y."""
    _, rows, length = shape
    while first < last:
        block = first // rows
        row = first - block * rows
        some = min(rows - row, last - first)
        at = block * offset_pitch + row
        near = offsets[at : at + some]
        base = block * pitch + column
        if length == 1:
            _gather_elements(x, near, y[first : first + some], base)
        else:
            for k in range(some):
                place = (first + k) * length + column
                begin = base + near[k]
                _copy_row(x[begin : begin + count], y[place : place + count])
        first += some


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
def _joined(code, v, u):
    """v op u; NaN wins."""
    if code == PUT:
        return u
    if code == ADD:
        return v + u
    if code == MUL:
        return v * u
    if code == MAX:
        return v if (v >= u) | math.isnan(v) else u
    return v if (v <= u) | math.isnan(v) else u


@serial
def _scatter_elements(code, x, offsets, y, base):
    """Rows of one element, in order."""
    for i in range(x.size):
        at = base + offsets[i]
        y[at] = _joined(code, y[at], x[i])


@serial
def _join(code, x, y):
    for i in range(y.size):
        y[i] = _joined(code, y[i], x[i])


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
        base = block * pitch + column
        near = offsets[block * offset_pitch : block * offset_pitch + rows]
        if length == 1 and code != CLEAR:
            _scatter_elements(code, x[block * rows : (block + 1) * rows], near, y, base)
        else:
            for row in range(rows):
                at = base + near[row]
                if code == CLEAR:
                    y[at : at + count] = 0
                else:
                    place = (block * rows + row) * length + column
                    _join(code, x[place : place + count], y[at : at + count])
