"""Operators of two inputs that broadcast."""

from __future__ import annotations

import math

from nbcnn.kernels.cuda._cuda import cuda, device, kernel, spread
from nbcnn.kernels.cuda.memory import WIDTH, gather, write
from nbcnn.kernels.cuda.real import fmod, log
from nbcnn.kernels.cuda.walk import LAST, count_pieces, line_of, starts
from nbcnn.kernels.opcodes import (
    ADD,
    DIV,
    EQUAL,
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


@device
def _apply(code, u, v, y):
    """y = u op v for four elements."""
    zero, one, two = y.dtype.type(0), y.dtype.type(1), y.dtype.type(2)
    if code == ADD:
        for i in range(WIDTH):
            y[i] = u[i] + v[i]
    elif code == SUB:
        for i in range(WIDTH):
            y[i] = u[i] - v[i]
    elif code == MUL:
        for i in range(WIDTH):
            y[i] = u[i] * v[i]
    elif code == DIV:
        for i in range(WIDTH):
            y[i] = u[i] / v[i]
    elif code == MAX:
        for i in range(WIDTH):
            y[i] = u[i] if u[i] >= v[i] or math.isnan(u[i]) else v[i]
    elif code == MIN:
        for i in range(WIDTH):
            y[i] = u[i] if u[i] <= v[i] or math.isnan(u[i]) else v[i]
    elif code == EQUAL:
        for i in range(WIDTH):
            y[i] = one if u[i] == v[i] else zero
    elif code in (PRELU, PRELU_GRAD, PRELU_SLOPE_GRAD):
        for i in range(WIDTH):
            left = one if code == PRELU_GRAD else u[i]
            right = zero if code == PRELU_SLOPE_GRAD else left
            y[i] = right if u[i] > zero else left * v[i]
    elif code in (FMOD, MOD):
        for i in range(WIDTH):
            rest = fmod(u[i], v[i])
            y[i] = rest + v[i] if code == MOD and rest != zero and (rest < zero) != (v[i] < zero) else rest
    elif code == POW:
        for i in range(WIDTH):
            y[i] = u[i] * u[i] if v[i] == two else u[i] ** v[i]
    elif code == POW_BASE_GRAD:
        for i in range(WIDTH):
            y[i] = zero if v[i] == zero else v[i] * u[i] ** (v[i] - one)
    elif code == POW_EXPONENT_GRAD:
        for i in range(WIDTH):
            y[i] = zero if u[i] == zero and v[i] >= zero else u[i] ** v[i] * log(u[i])


@kernel
def _arithmetic(code, a, b, y, pieces, shape, a_strides, b_strides, low, high):
    u = cuda.local.array(WIDTH, y.dtype)
    v = cuda.local.array(WIDTH, y.dtype)
    w = cuda.local.array(WIDTH, y.dtype)
    piece = cuda.grid(1)
    while piece < pieces:
        line, column = line_of(piece, shape)
        at_a, at_b, _ = starts(line, shape, a_strides, b_strides, b_strides)
        left = shape[LAST] - column
        gather(a, at_a + column * a_strides[LAST], a_strides[LAST], left, u)
        gather(b, at_b + column * b_strides[LAST], b_strides[LAST], left, v)
        if code >= REVERSED:
            _apply(code - REVERSED, v, u, w)
        else:
            _apply(code, u, v, w)
        for k in range(WIDTH):
            held = low if w[k] < low else w[k]
            w[k] = high if held > high else held
        write(y, line * shape[LAST] + column, left, w)
        piece += cuda.gridsize(1)


def arithmetic(code, a, b, y, shape, a_strides, b_strides, low, high):
    """y = clamp(a op b, low, high); y may be a or b where that operand is not repeated. code: see opcodes.py.

    shape: six integers, the shape of y in memory order. a_strides, b_strides: elements of a and b from one index to the
    next along each axis, 0 along which it is repeated. It is fastest where the last strides are 1 or 0.
    """
    pieces = count_pieces(shape)
    spread(_arithmetic, pieces, code, a, b, y, pieces, shape, a_strides, b_strides, low, high)
