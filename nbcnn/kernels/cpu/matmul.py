"""Products of stacks of matrices, where the second is computed for each of them; the others go through conv.py's
panels.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = ["matmul_batched"]

ROWS = 8
"""Rows of a product that one task computes."""


@serial
def _row(a, b, y, depth, a_step, b_strides):
    """y = one row of a times b; all arrays start at their first element."""
    by_depth, by_column = b_strides
    if by_column == 1:
        y[:] = 0
        for k in range(depth):
            factor = a[k * a_step]
            # A slice, because an index that might be negative keeps the compiler from vectorizing.
            line = b[k * by_depth : k * by_depth + y.size]
            for i in range(y.size):
                y[i] += factor * line[i]
    elif by_depth == 1 and a_step == 1:
        for i in range(y.size):
            line = b[i * by_column : i * by_column + depth]
            total = y.dtype.type(0)
            for k in range(depth):
                total += a[k] * line[k]
            y[i] = total
    else:
        for i in range(y.size):
            total = y.dtype.type(0)
            for k in range(depth):
                total += a[k * a_step] * b[i * by_column + k * by_depth]
            y[i] = total


@serial
def _task(task, a, b, y, stack, a_stack, b_stack, shape, a_strides, b_strides):
    rows, columns, depth = shape
    strips = (rows + ROWS - 1) // ROWS
    first = task % strips * ROWS
    matrix = task // strips
    at_a = at_b = 0
    rest = matrix
    for axis in range(3, -1, -1):
        index = rest % stack[axis]
        rest //= stack[axis]
        at_a += index * a_stack[axis]
        at_b += index * b_stack[axis]
    for row in range(first, min(first + ROWS, rows)):
        place = (matrix * rows + row) * columns
        _row(a[at_a + row * a_strides[0] :], b[at_b:], y[place : place + columns], depth, a_strides[1], b_strides)


@kernel
def matmul_batched(a, b, y, stack, a_stack, b_stack, shape, a_strides, b_strides):
    """y (*stack, rows, columns) = a (*stack, rows, depth) times b (*stack, depth, columns).

    stack: four integers. a_stack, b_stack: elements from matrix to matrix along each, 0 along which an operand is
    repeated. shape: (rows, columns, depth). a_strides: elements along (rows, depth); b_strides: along (depth, columns).
    """
    strips = (shape[0] + ROWS - 1) // ROWS
    # np.int64, because a parallel loop may count in unsigned numbers.
    for index in prange(stack[0] * stack[1] * stack[2] * stack[3] * strips):
        task = np.int64(index)
        _task(task, a, b, y, stack, a_stack, b_stack, shape, a_strides, b_strides)
