"""Trigonometric and hyperbolic functions, which networks seldom have: apart from elementwise.py, so that only those
that do wait for them to be compiled.

They are the C library's in float64, a call for each number, and rounded to the type of the result.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.opcodes import ACOS, ACOSH, ASIN, ASINH, ATAN, COS, COSH, SIN, SINH, SLOPE, TAN

__all__ = ["trigonometry"]

BLOCK = 1024
"""Elements that one task is worth."""


@serial
def _value(code, x):
    if code == SIN:
        return math.sin(x)
    if code == COS:
        return math.cos(x)
    if code == TAN:
        return math.tan(x)
    if code == ASIN:
        return math.asin(x)
    if code == ACOS:
        return math.acos(x)
    if code == ATAN:
        return math.atan(x)
    if code == SINH:
        return math.sinh(x)
    if code == COSH:
        return math.cosh(x)
    if code == ASINH:
        return math.asinh(x)
    if code == ACOSH:
        return math.acosh(x)
    return math.atanh(x)


@serial
def _slope(code, x):
    """The derivative."""
    if code == SIN:
        return math.cos(x)
    if code == COS:
        return -math.sin(x)
    if code == TAN:
        return 1 + math.tan(x) ** 2
    if code == ASIN:
        return 1 / math.sqrt((1 - x) * (1 + x))
    if code == ACOS:
        return -1 / math.sqrt((1 - x) * (1 + x))
    if code == ATAN:
        return 1 / (1 + x * x)
    if code == SINH:
        return math.cosh(x)
    if code == COSH:
        return math.sinh(x)
    if code == ASINH:
        return 1 / math.hypot(1.0, x)
    if code == ACOSH:
        return 1 / (math.sqrt(x - 1) * math.sqrt(x + 1))
    return 1 / ((1 - x) * (1 + x))


@kernel
def trigonometry(code, x, dy, y):
    """y = f(x), or y = dy f'(x), element by element; y may be x or dy. code: see opcodes.py; dy is read for a
    derivative alone.
    """
    for index in prange((x.size + BLOCK - 1) // BLOCK):
        block = np.int64(index)
        for i in range(block * BLOCK, min((block + 1) * BLOCK, x.size)):
            u = np.float64(x[i])
            y[i] = dy[i] * _slope(code - SLOPE, u) if code >= SLOPE else _value(code, u)
