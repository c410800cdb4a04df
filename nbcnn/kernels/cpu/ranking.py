"""Where the largest or smallest elements along an axis lie, and the first few of them in order. NaN counts as the
largest of all for TopK, and comes first for the others, as in NumPy.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.reduce import COLUMNS
from nbcnn.kernels.opcodes import MAX

__all__ = ["arg_extreme", "top_k"]


@serial
def _takes(code, u, v, last):
    """Whether u, which comes after v, takes its place. Without branches, which nobody could predict."""
    above = (u > v) if code == MAX else (u < v)
    equal = (u == v) | (math.isnan(u) & math.isnan(v))
    return above | (math.isnan(u) & (not math.isnan(v))) | (last & equal)


@serial
def _step(code, u, i, best, at, last):
    """The extreme so far and its place, after element i, which is u."""
    takes = _takes(code, u, best, last)
    return (u if takes else best), (i if takes else at)


@serial
def _arg_lines(code, x, y, rows, last):
    """Contiguous lines; four at once, because each comparison waits for the one before it."""
    first, stop = 0, y.size
    while first < stop:
        # At the end of the block some lines are worked out twice.
        at = max(min(first, stop - 4), 0)
        p = at * rows
        q, r, s = p + min(1, stop - 1) * rows, p + min(2, stop - 1) * rows, p + min(3, stop - 1) * rows
        a, b, c, d = x[p], x[q], x[r], x[s]
        i = j = k = m = 0
        for n in range(1, rows):
            a, i = _step(code, x[p + n], n, a, i, last)
            b, j = _step(code, x[q + n], n, b, j, last)
            c, k = _step(code, x[r + n], n, c, k, last)
            d, m = _step(code, x[s + n], n, d, m, last)
        y[at] = i
        y[at + min(1, stop - 1)] = j
        y[at + min(2, stop - 1)] = k
        y[at + min(3, stop - 1)] = m
        first = at + 4


@serial
def _arg_columns(code, x, best, y, rows, pitch, last):
    """The row of the extreme of each column; best: memory for the extremes."""
    for i in range(y.size):
        best[i] = x[i]
        y[i] = 0
    for row in range(1, rows):
        # A slice, because an index that might be negative keeps the compiler from vectorizing.
        line = x[row * pitch : row * pitch + y.size]
        for i in range(y.size):
            takes = _takes(code, line[i], best[i], last)
            best[i] = line[i] if takes else best[i]
            y[i] = row if takes else y[i]


@kernel
def arg_extreme(code, x, best, y, shape, last):
    """y (outer, inner) int64 = the row of the maximum (code MAX) or minimum of x (outer, rows, inner).

    best: memory of y's size and x's type. shape: (outer, rows, inner), rows at least 1. last: of equal ones the last
    counts, not the first.
    """
    outer, rows, inner = shape
    chunks = (inner + COLUMNS - 1) // COLUMNS
    lines = max(COLUMNS // rows, 4) if inner == 1 else 1
    for index in prange((outer + lines - 1) // lines * chunks):
        task = np.int64(index)
        column = task % chunks * COLUMNS
        image = task // chunks * lines
        at, place = image * rows * inner + column, image * inner + column
        if inner == 1:
            count = min(lines, outer - image)
            _arg_lines(code, x[at : at + count * rows], y[place : place + count], rows, last)
        else:
            stop = place + min(COLUMNS, inner - column)
            _arg_columns(code, x[at : (image + 1) * rows * inner], best[place:stop], y[place:stop], rows, inner, last)


@serial
def _before(u, i, v, j, largest):
    """Whether element i, which is u, comes before element j, which is v."""
    if (u == v) | (math.isnan(u) & math.isnan(v)):
        return i < j
    if math.isnan(u) | math.isnan(v):
        return math.isnan(u) == largest
    return (u > v) == largest


@serial
def _sift(values, indices, at, count, step, largest):
    """Move an element of a heap, whose root comes last of all, down to its place."""
    while 2 * at + 1 < count:
        child = 2 * at + 1
        a = child * step
        b = a + step
        if child + 1 < count and _before(values[a], indices[a], values[b], indices[b], largest):
            child, a = child + 1, b
        p = at * step
        if not _before(values[p], indices[p], values[a], indices[a], largest):
            return
        values[p], values[a] = values[a], values[p]
        indices[p], indices[a] = indices[a], indices[p]
        at = child


@serial
def _top(x, values, indices, rows, k, step, largest):
    """The first k elements of one line, whose elements lie `step` apart: a heap of the best so far, sorted at last."""
    for i in range(k):
        values[i * step], indices[i * step] = x[i * step], i
    for i in range(k // 2 - 1, -1, -1):
        _sift(values, indices, i, k, step, largest)
    for i in range(k, rows):
        if _before(x[i * step], i, values[0], indices[0], largest):
            values[0], indices[0] = x[i * step], i
            _sift(values, indices, 0, k, step, largest)
    for end in range(k - 1, 0, -1):
        at = end * step
        values[0], values[at] = values[at], values[0]
        indices[0], indices[at] = indices[at], indices[0]
        _sift(values, indices, 0, end, step, largest)


@kernel
def top_k(x, values, indices, shape, k, largest):
    """values, indices (outer, k, inner) = the k largest (or smallest) of x (outer, rows, inner), in order; of equal
    ones the first comes first. shape: (outer, rows, inner); 1 <= k <= rows.
    """
    outer, rows, inner = shape
    for index in prange(outer * inner):
        line = np.int64(index)
        at, place = line // inner * rows * inner + line % inner, line // inner * k * inner + line % inner
        _top(x[at:], values[place:], indices[place:], rows, k, inner, largest)
