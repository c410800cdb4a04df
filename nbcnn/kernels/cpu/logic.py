"""Comparisons of floats: operands that broadcast are walked with strides, in the order in which the result lies in
memory.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.opcodes import EQUAL, GREATER

__all__ = ["compare", "offset"]

BLOCK = 4096
LAST = 5
"""The axis of `shape` along which a run goes."""


@serial
def offset(row, shape, strides):
    """Where the run number `row` begins in an operand."""
    at = 0
    for axis in range(LAST - 1, -1, -1):
        if shape[axis] > 1:
            at += row % shape[axis] * strides[axis]
            row //= shape[axis]
    return at


@serial
def _compare_run(code, a, at_a, step_a, b, at_b, step_b, y):
    """One run; contiguous ones, and single numbers, have loops that are vectorized."""
    count = y.size
    if step_a == 1 and step_b == 1:
        u, v = a[at_a : at_a + count], b[at_b : at_b + count]
        if code == EQUAL:
            for i in range(count):
                y[i] = u[i] == v[i]
        elif code == GREATER:
            for i in range(count):
                y[i] = u[i] > v[i]
        else:
            for i in range(count):
                y[i] = u[i] >= v[i]
    elif step_a == 1 and step_b == 0:
        u, right = a[at_a : at_a + count], b[at_b]
        if code == EQUAL:
            for i in range(count):
                y[i] = u[i] == right
        elif code == GREATER:
            for i in range(count):
                y[i] = u[i] > right
        else:
            for i in range(count):
                y[i] = u[i] >= right
    else:
        for i in range(count):
            left, right = a[at_a + i * step_a], b[at_b + i * step_b]
            y[i] = left == right if code == EQUAL else left > right if code == GREATER else left >= right


@kernel
def compare(code, a, b, y, shape, a_strides, b_strides):
    """y = a op b, booleans. code: EQUAL, GREATER or GREATER_EQUAL.

    shape: six integers, the shape of y in memory order. a_strides, b_strides: elements of a and b from one index to the
    next along each axis, 0 along which it is repeated.
    """
    length = shape[LAST]
    for index in prange((y.size + BLOCK - 1) // BLOCK):
        start = np.int64(index) * BLOCK
        stop = min(start + BLOCK, y.size)
        while start < stop:
            row = start // length
            column = start - row * length
            count = min(length - column, stop - start)
            at_a = offset(row, shape, a_strides) + column * a_strides[LAST]
            at_b = offset(row, shape, b_strides) + column * b_strides[LAST]
            _compare_run(code, a, at_a, a_strides[LAST], b, at_b, b_strides[LAST], y[start : start + count])
            start += count
