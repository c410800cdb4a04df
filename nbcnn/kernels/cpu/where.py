"""Where: choices between floats."""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.logic import BLOCK, LAST, offset

__all__ = ["choose"]


@serial
def _choose_run(c, at_c, step_c, a, at_a, step_a, b, at_b, step_b, y):
    count = y.size
    if step_c == 1 and step_a == 1 and step_b == 1:
        mask, u, v = c[at_c : at_c + count], a[at_a : at_a + count], b[at_b : at_b + count]
        for i in range(count):
            left, right = u[i], v[i]
            y[i] = left if mask[i] else right
    elif step_c == 1 and step_a == 1 and step_b == 0:
        mask, u, right = c[at_c : at_c + count], a[at_a : at_a + count], b[at_b]
        for i in range(count):
            left = u[i]
            y[i] = left if mask[i] else right
    elif step_c == 1 and step_a == 0 and step_b == 1:
        mask, left, v = c[at_c : at_c + count], a[at_a], b[at_b : at_b + count]
        for i in range(count):
            right = v[i]
            y[i] = left if mask[i] else right
    else:
        for i in range(count):
            y[i] = a[at_a + i * step_a] if c[at_c + i * step_c] else b[at_b + i * step_b]


@kernel
def choose(c, a, b, y, shape, c_strides, a_strides, b_strides):
    """y = a where c, else b; y may be a or b where that operand is not repeated.

    c: booleans. shape: six integers, the shape of y in memory order. c_strides, a_strides, b_strides: elements of each
    operand from one index to the next along each axis, 0 along which it is repeated.
    """
    length = shape[LAST]
    for index in prange((y.size + BLOCK - 1) // BLOCK):
        start = np.int64(index) * BLOCK
        stop = min(start + BLOCK, y.size)
        while start < stop:
            row = start // length
            column = start - row * length
            count = min(length - column, stop - start)
            at_c = offset(row, shape, c_strides) + column * c_strides[LAST]
            at_a = offset(row, shape, a_strides) + column * a_strides[LAST]
            at_b = offset(row, shape, b_strides) + column * b_strides[LAST]
            steps = (c_strides[LAST], a_strides[LAST], b_strides[LAST])
            _choose_run(c, at_c, steps[0], a, at_a, steps[1], b, at_b, steps[2], y[start : start + count])
            start += count
