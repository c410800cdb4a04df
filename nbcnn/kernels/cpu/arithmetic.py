"""Operators of two inputs that broadcast: both are walked with strides, in the order in which the result lies in
memory.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.opcodes import (
    ADD,
    DIV,
    FMOD,
    MAX,
    MIN,
    MOD,
    MUL,
    POW,
    POW_BASE_GRAD,
    POW_EXPONENT_GRAD,
    PRELU,
    PRELU_GRAD,
    PRELU_SLOPE_GRAD,
    REVERSED,
    SUB,
)

__all__ = ["arithmetic"]

BLOCK = 4096
LAST = 5
"""The axis of `shape` along which a run goes."""


@serial
def _one(code, u, v, zero, one):
    """u op v."""
    if code >= REVERSED:
        code -= REVERSED
        u, v = v, u
    if code == ADD:
        return u + v
    if code == SUB:
        return u - v
    if code == MUL:
        return u * v
    if code == DIV:
        return u / v
    if code == POW:
        return u * u if v == one + one else u**v
    if code == MAX:
        return u if (u >= v) | math.isnan(u) else v
    if code == MIN:
        return u if (u <= v) | math.isnan(u) else v
    if code in (FMOD, MOD):
        rest = math.copysign(abs(u) % abs(v), u)
        return rest + v if code == MOD and rest != zero and (rest < zero) != (v < zero) else rest
    if code == POW_BASE_GRAD:
        return zero if v == zero else v * u ** (v - one)
    if code == POW_EXPONENT_GRAD:
        return zero if (u == zero) & (v >= zero) else u**v * math.log(u)
    if code == PRELU:
        return u if u > zero else u * v
    if code == PRELU_GRAD:
        return one if u > zero else v
    if code == PRELU_SLOPE_GRAD:
        return zero if u > zero else u * v
    return one if u == v else zero


@serial
def _vectors(code, a, b, y):
    """A run along which both operands are contiguous; the common operations have loops of their own, which are
    vectorized.
    """
    zero, one = y.dtype.type(0), y.dtype.type(1)
    if code == ADD:
        for i in range(y.size):
            y[i] = a[i] + b[i]
    elif code == SUB:
        for i in range(y.size):
            y[i] = a[i] - b[i]
    elif code == MUL:
        for i in range(y.size):
            y[i] = a[i] * b[i]
    elif code == DIV:
        for i in range(y.size):
            y[i] = a[i] / b[i]
    elif code == MAX:
        for i in range(y.size):
            y[i] = a[i] if (a[i] >= b[i]) | math.isnan(a[i]) else b[i]
    elif PRELU <= code <= PRELU_SLOPE_GRAD:
        # One loop for the three: each more would take a quarter of a second to compile.
        for i in range(y.size):
            u = one if code == PRELU_GRAD else a[i]
            right = zero if code == PRELU_SLOPE_GRAD else u
            y[i] = right if a[i] > zero else u * b[i]
    else:
        for i in range(y.size):
            y[i] = _one(code, a[i], b[i], zero, one)


@serial
def _scalar(code, a, v, y):
    """A run along which the second operand is one number."""
    if code == ADD:
        for i in range(y.size):
            y[i] = a[i] + v
    elif code == MUL:
        for i in range(y.size):
            y[i] = a[i] * v
    elif code == DIV:
        for i in range(y.size):
            y[i] = a[i] / v
    elif code == SUB + REVERSED:
        for i in range(y.size):
            y[i] = v - a[i]
    else:
        zero, one = y.dtype.type(0), y.dtype.type(1)
        for i in range(y.size):
            y[i] = _one(code, a[i], v, zero, one)


@serial
def _strided(code, a, at_a, step_a, b, at_b, step_b, y):
    """Any other run."""
    zero, one = y.dtype.type(0), y.dtype.type(1)
    if step_a == 0 and step_b == 0:
        y[:] = _one(code, a[at_a], b[at_b], zero, one)
        return
    for i in range(y.size):
        y[i] = _one(code, a[at_a + i * step_a], b[at_b + i * step_b], zero, one)


@serial
def _clamp(y, low, high):
    for i in range(y.size):
        v = low if y[i] < low else y[i]
        y[i] = high if v > high else v


@serial
def _block(code, a, b, y, shape, a_strides, b_strides, start, stop, low, high):
    """Elements start..stop of y, run by run."""
    length, step_a, step_b = shape[LAST], a_strides[LAST], b_strides[LAST]
    while start < stop:
        rest = start // length
        column = start - rest * length
        count = min(length - column, stop - start)
        at_a, at_b = column * step_a, column * step_b
        for axis in range(LAST - 1, -1, -1):
            if shape[axis] > 1:
                index = rest % shape[axis]
                rest //= shape[axis]
                at_a += index * a_strides[axis]
                at_b += index * b_strides[axis]
        run = y[start : start + count]
        # Slices, because an index that might be negative keeps the compiler from vectorizing.
        if step_a == 1 and step_b == 1:
            _vectors(code, a[at_a : at_a + count], b[at_b : at_b + count], run)
        elif step_a == 1 and step_b == 0:
            _scalar(code, a[at_a : at_a + count], b[at_b], run)
        else:
            _strided(code, a, at_a, step_a, b, at_b, step_b, run)
        if low > -math.inf or high < math.inf:
            _clamp(run, low, high)
        start += count


@kernel
def arithmetic(code, a, b, y, shape, a_strides, b_strides, low, high):
    """y = clamp(a op b, low, high); y may be a or b where that operand is not repeated. code: see opcodes.py.

    shape: six integers, the shape of y in memory order. a_strides, b_strides: elements of a and b from one index to the
    next along each axis, 0 along which it is repeated. It is fastest where a's last stride is 1 and b's is 1 or 0.
    """
    for index in prange((y.size + BLOCK - 1) // BLOCK):
        block = np.int64(index)
        start = block * BLOCK
        stop = min(start + BLOCK, y.size)
        _block(code, a, b, y, shape, a_strides, b_strides, start, stop, low, high)
