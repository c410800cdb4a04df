"""Operators of one input, element by element, and their gradients: a block of elements and a code that says what to
compute.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from nbcnn.kernels.cpu import transcendental
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.opcodes import (
    ABS,
    CLAMP,
    CLIP,
    ELU,
    EXP,
    HARD_SIGMOID,
    HARD_SWISH,
    LEAKY_RELU,
    LOG,
    NEG,
    SIGMOID,
    SIGN,
    SOFTPLUS,
    SOFTSIGN,
    SQRT,
    TANH,
)

__all__ = ["elementwise", "elementwise_grad"]

BLOCK = 4096


@serial
def _apply(code, x, y, a, b):
    """y = f(x); x may be y. Every branch is a loop of its own, so that each is vectorized."""
    zero, one = x.dtype.type(0), x.dtype.type(1)
    count = x.size
    if code == CLIP:
        for i in range(count):
            v = a if x[i] < a else x[i]
            y[i] = b if v > b else v
    elif code == LEAKY_RELU:
        for i in range(count):
            y[i] = x[i] if x[i] > zero else a * x[i]
    elif code == ELU:
        for i in range(count):
            v = x[i]
            negative = a * transcendental.expm1(zero if v > zero else v)
            y[i] = b * v if v > zero else negative
    elif code == SIGMOID:
        for i in range(count):
            y[i] = one / (one + transcendental.exp(-x[i]))
    elif code == HARD_SIGMOID:
        for i in range(count):
            v = a * x[i] + b
            v = zero if v < zero else v
            y[i] = one if v > one else v
    elif code == TANH:
        for i in range(count):
            y[i] = transcendental.tanh(x[i])
    elif code == SOFTPLUS:
        for i in range(count):
            v = x[i]
            y[i] = (zero if v < zero else v) + math.log1p(transcendental.exp(-abs(v)))
    elif code == SOFTSIGN:
        for i in range(count):
            y[i] = x[i] / (one + abs(x[i]))
    elif code == SIGN:
        for i in range(count):
            v = one if x[i] > zero else x[i]
            y[i] = -one if v < zero else v
    elif code == ABS:
        for i in range(count):
            y[i] = abs(x[i])
    elif code == NEG:
        for i in range(count):
            y[i] = -x[i]
    elif code == EXP:
        for i in range(count):
            y[i] = transcendental.exp(x[i])
    elif code == LOG:
        for i in range(count):
            y[i] = math.log(x[i])
    elif code == SQRT:
        for i in range(count):
            y[i] = math.sqrt(x[i])
    elif code == HARD_SWISH:
        sixth, half = one / x.dtype.type(6), one / x.dtype.type(2)
        for i in range(count):
            u = x[i]
            v = u * sixth + half
            v = zero if v < zero else v
            y[i] = u * (one if v > one else v)


@kernel
def elementwise(code, x, y, a, b):
    """y = f(x), element by element; y may be x. code: see opcodes.py, which also says what the scalars a and b are."""
    for index in prange((x.size + BLOCK - 1) // BLOCK):
        block = np.int64(index)
        start = block * BLOCK
        _apply(code, x[start : start + BLOCK], y[start : start + BLOCK], a, b)


# --- gradients ------------------------------------------------------------------------------------------------------


@serial
def _apply_grad(code, v, dy, dx, a, b):
    """dx = dy f'; v is what `elementwise_grad` says. dx may be dy.

    dy is read whether or not it is passed on: a read that depends on a condition would be a branch for each element.
    """
    zero, one, two = v.dtype.type(0), v.dtype.type(1), v.dtype.type(2)
    count = v.size
    if code == CLAMP:
        for i in range(count):
            d = dy[i]
            dx[i] = d if (v[i] > a) & (v[i] < b) else zero
    elif code == CLIP:
        for i in range(count):
            d = dy[i]
            dx[i] = d if (v[i] >= a) & (v[i] <= b) else zero
    elif code == LEAKY_RELU:
        for i in range(count):
            d = dy[i]
            dx[i] = d if v[i] > zero else a * d
    elif code == ELU:
        for i in range(count):
            u, d = v[i], dy[i]
            dx[i] = d * (b if u > zero else u + a)
    elif code == SIGMOID:
        for i in range(count):
            dx[i] = dy[i] * v[i] * (one - v[i])
    elif code == HARD_SIGMOID:
        for i in range(count):
            d = dy[i] * a
            dx[i] = d if (v[i] > zero) & (v[i] < one) else zero
    elif code == TANH:
        for i in range(count):
            dx[i] = dy[i] * (one - v[i] * v[i])
    elif code == SOFTPLUS:
        for i in range(count):
            dx[i] = dy[i] / (one + transcendental.exp(-v[i]))
    elif code == SOFTSIGN:
        for i in range(count):
            s = one + abs(v[i])
            dx[i] = dy[i] / (s * s)
    elif code == SIGN:
        for i in range(count):
            dx[i] = zero
    elif code == ABS:
        for i in range(count):
            u, d = v[i], dy[i]
            d = d if u > zero else -d
            dx[i] = zero if u == zero else d
    elif code == EXP:
        for i in range(count):
            dx[i] = dy[i] * v[i]
    elif code == LOG:
        for i in range(count):
            dx[i] = dy[i] / v[i]
    elif code == SQRT:
        for i in range(count):
            dx[i] = dy[i] / (two * v[i])
    elif code == HARD_SWISH:
        three = one + two
        for i in range(count):
            u, d = v[i], dy[i]
            slope = u / three + one / two
            slope = zero if u < -three else slope
            dx[i] = d if u > three else d * slope


@kernel
def elementwise_grad(code, v, dy, dx, a, b):
    """dx = dy f'(x), element by element; dx may be dy or v.

    v is f's output y for CLAMP, LEAKY_RELU, ELU, SIGMOID, HARD_SIGMOID, TANH, EXP and SQRT, and its input x for the
    rest. At a kink the derivative is PyTorch's: 0 for CLAMP at its bounds and ABS at 0, 1 for CLIP at its bounds, a for
    LEAKY_RELU at 0.
    """
    for index in prange((v.size + BLOCK - 1) // BLOCK):
        block = np.int64(index)
        start = block * BLOCK
        _apply_grad(code, v[start : start + BLOCK], dy[start : start + BLOCK], dx[start : start + BLOCK], a, b)
