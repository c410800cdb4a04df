"""The product of a sparse matrix and a dense array along one of its axes: to gather, to resize, to pad with copies."""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = ["sparse_along_axis"]

BLOCK = 2048
"""Elements of y that one task writes; they stay in the L1 cache while further taps are added."""
NARROW = 16
"""Lines of fewer elements are summed one element at a time."""


@serial
def _combine(x, y, x_at, y_at, step, count, columns, weights, first, last, empty):
    """`count` neighbours of one row of y: the sum over taps first..last."""
    # Slices, because an index that might be negative keeps the compiler from vectorizing.
    target = y[y_at : y_at + count]
    if first == last:
        target[:] = empty
        return
    a = x[x_at + columns[first] * step : x_at + columns[first] * step + count]
    if last - first == 1:
        weight = weights[first]
        for i in range(count):
            target[i] = weight * a[i]
        return
    b = x[x_at + columns[first + 1] * step : x_at + columns[first + 1] * step + count]
    weight, other = weights[first], weights[first + 1]
    for i in range(count):
        target[i] = weight * a[i] + other * b[i]
    for tap in range(first + 2, last):
        weight = weights[tap]
        c = x[x_at + columns[tap] * step : x_at + columns[tap] * step + count]
        for i in range(count):
            target[i] += weight * c[i]


@serial
def _combine_narrow(x, y, line, lines, row, x_at, step, size, starts, columns, weights, empty):
    """Lines line..lines of y, which are too short to be worth vectors or a call each."""
    rows = starts.size - 1
    for y_at in range(line * step, lines * step, step):
        first, last = starts[row], starts[row + 1]
        for i in range(step):
            total = empty
            if first < last:
                total = weights[first] * x[x_at + columns[first] * step + i]
            for tap in range(first + 1, last):
                total += weights[tap] * x[x_at + columns[tap] * step + i]
            y[y_at + i] = total
        row += 1
        if row == rows:
            row = 0
            x_at += size * step


@serial
def _sparse_task(task, x, y, starts, columns, weights, shape, strip, chunks, empty):
    """One strip of lines (rows of any of the outer positions) and chunk of neighbours."""
    outer, size, inner = shape
    rows = starts.size - 1
    chunk = task % chunks * BLOCK
    count = min(BLOCK, inner - chunk)
    begin = task // chunks * strip
    end = min(begin + strip, outer * rows)
    row, x_at = begin % rows, begin // rows * size * inner
    if inner < NARROW:
        _combine_narrow(x, y, begin, end, row, x_at, inner, size, starts, columns, weights, empty)
        return
    for line in range(begin, end):
        first, last = starts[row], starts[row + 1]
        _combine(x, y, x_at + chunk, line * inner + chunk, inner, count, columns, weights, first, last, empty)
        row += 1
        if row == rows:
            row = 0
            x_at += size * inner


@kernel
def sparse_along_axis(x, y, starts, columns, weights, shape, empty):
    """y (outer, rows, inner) = matrix (rows, size) times x (outer, size, inner), along the middle axis.

    shape: (outer, size, inner). The matrix is in CSR form: row r has weights[k] in column columns[k] for k from
    starts[r] up to starts[r + 1]. Rows without any become `empty`.
    """
    strip = max(BLOCK // max(shape[2], 1), 1)
    chunks = (shape[2] + BLOCK - 1) // BLOCK
    strips = (shape[0] * (starts.size - 1) + strip - 1) // strip
    for index in prange(strips * chunks):
        task = np.int64(index)
        _sparse_task(task, x, y, starts, columns, weights, shape, strip, chunks, empty)
