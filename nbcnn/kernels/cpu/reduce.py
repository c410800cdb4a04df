"""Reductions: rows of (outer, rows, inner) are brought together, a fixed block of rows at a time, so that the order of
every sum is fixed.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.opcodes import MAX, MIN

__all__ = ["reduce_max_grad", "reduce_rows"]

COLUMNS = 1024
"""Columns that one task takes, so that what it sums into stays in the L1 cache."""


NARROW = 64
"""Columns up to which four rows are added at once: they lie so close that they are one stream."""


@serial
def _extreme(code, u, v):
    """The larger (MAX) or smaller of two; NaN wins."""
    if code == MAX:
        return u if (u >= v) | math.isnan(u) else v
    return u if (u <= v) | math.isnan(u) else v


@serial
def _line(code, x, zero):
    """The reduction of one contiguous line."""
    if code in (MAX, MIN):
        # Four at once, because each comparison waits for the one before it.
        a = b = c = d = x[0]
        whole = x.size - x.size % 4
        for i in range(0, whole, 4):
            a, b = _extreme(code, a, x[i]), _extreme(code, b, x[i + 1])
            c, d = _extreme(code, c, x[i + 2]), _extreme(code, d, x[i + 3])
        for i in range(whole, x.size):
            a = _extreme(code, a, x[i])
        return _extreme(code, _extreme(code, a, b), _extreme(code, c, d))
    total = zero
    for i in range(x.size):
        total += x[i]
    return total


@serial
def _columns(code, x, y, rows, pitch):
    """y = the reduction of `rows` lines as long as y, which lie `pitch` elements apart in x."""
    count = y.size
    if code in (MAX, MIN):
        for i in range(count):  # not y[:] = x, whose check of the shapes takes a second to compile
            y[i] = x[i]
        for row in range(1, rows):
            line = x[row * pitch : row * pitch + count]
            for i in range(count):
                y[i] = _extreme(code, y[i], line[i])
        return
    y[:] = 0
    # Wide rows one by one: memory is read faster as one stream than as four.
    whole = rows - rows % 4 if count <= NARROW else 0
    for row in range(0, whole, 4):
        # Slices, because an index that might be negative keeps the compiler from vectorizing.
        a = x[row * pitch : row * pitch + count]
        b = x[(row + 1) * pitch : (row + 1) * pitch + count]
        c = x[(row + 2) * pitch : (row + 2) * pitch + count]
        d = x[(row + 3) * pitch : (row + 3) * pitch + count]
        for i in range(count):
            y[i] += (a[i] + b[i]) + (c[i] + d[i])
    for row in range(whole, rows):
        line = x[row * pitch : row * pitch + count]
        for i in range(count):
            y[i] += line[i]


@kernel
def reduce_rows(code, x, y, shape, block, scale):
    """y (outer, parts, inner) = scale times the sum (or MAX, or MIN) of each `block` rows of x (outer, rows, inner).

    code: of opcodes.py. shape: (outer, rows, inner); parts = rows / block, rounded up. rows is at least 1.
    """
    outer, rows, inner = shape
    parts = (rows + block - 1) // block
    chunks = (inner + COLUMNS - 1) // COLUMNS
    zero = y.dtype.type(0)
    for index in prange(outer * parts * chunks):
        task = np.int64(index)
        column = task % chunks * COLUMNS
        part = task // chunks % parts
        image = task // chunks // parts
        count = min(block, rows - part * block)
        at = (image * rows + part * block) * inner + column
        place = (image * parts + part) * inner + column
        if inner == 1:
            y[place] = _line(code, x[at : at + count], zero) * scale
        else:
            out = y[place : place + min(COLUMNS, inner - column)]
            _columns(code, x[at : at + count * inner], out, count, inner)
            if scale != 1:
                for i in range(out.size):
                    out[i] *= scale


@serial
def _first_extreme(cell, x, y, dy, dx, kept, x_kept, y_kept, reduced, x_reduced):
    """All elements of x that one element of y was found among."""
    at_x = at_y = 0
    rest = cell
    for axis in range(5, -1, -1):
        index = rest % kept[axis]
        rest //= kept[axis]
        at_x += index * x_kept[axis]
        at_y += index * y_kept[axis]
    total = reduced[0] * reduced[1] * reduced[2] * reduced[3] * reduced[4] * reduced[5]
    waiting = True
    for item in range(total):
        at = at_x
        rest = item
        for axis in range(5, -1, -1):
            at += rest % reduced[axis] * x_reduced[axis]
            rest //= reduced[axis]
        takes = waiting and x[at] == y[at_y]
        dx[at] = dy[at_y] if takes else x.dtype.type(0)
        waiting = waiting and not takes


@kernel
def reduce_max_grad(x, y, dy, dx, kept, x_kept, y_kept, reduced, x_reduced):
    """dx = dy at the first of the elements that are equal to their maximum (or minimum) y, zero elsewhere.

    kept: shape of the axes that y has; x_kept, y_kept: strides along them. reduced, x_reduced: shape and strides of the
    axes that it has not, in the order in which "first" is meant. Six integers each.
    """
    # np.int64, because a parallel loop may count in unsigned numbers.
    for index in prange(kept[0] * kept[1] * kept[2] * kept[3] * kept[4] * kept[5]):
        cell = np.int64(index)
        _first_extreme(cell, x, y, dy, dx, kept, x_kept, y_kept, reduced, x_reduced)
