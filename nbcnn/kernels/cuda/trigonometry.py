"""Trigonometric and hyperbolic functions, computed in float64, as on the CPU, and rounded to the type of the result."""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda._cuda import cuda, device, kernel, spread
from nbcnn.kernels.cuda.real import (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atanh,
    cos,
    cosh,
    hypot,
    sin,
    sinh,
    sqrt,
    tan,
)
from nbcnn.kernels.opcodes import ACOS, ACOSH, ASIN, ASINH, ATAN, COS, COSH, SIN, SINH, SLOPE, TAN

__all__ = ["trigonometry"]


@device
def _value(code, x):
    if code == SIN:
        return sin(x)
    if code == COS:
        return cos(x)
    if code == TAN:
        return tan(x)
    if code == ASIN:
        return asin(x)
    if code == ACOS:
        return acos(x)
    if code == ATAN:
        return atan(x)
    if code == SINH:
        return sinh(x)
    if code == COSH:
        return cosh(x)
    if code == ASINH:
        return asinh(x)
    if code == ACOSH:
        return acosh(x)
    return atanh(x)


@device
def _slope(code, x):
    """The derivative."""
    if code == SIN:
        return cos(x)
    if code == COS:
        return -sin(x)
    if code == TAN:
        return 1.0 + tan(x) * tan(x)
    if code == ASIN:
        return 1.0 / sqrt((1.0 - x) * (1.0 + x))
    if code == ACOS:
        return -1.0 / sqrt((1.0 - x) * (1.0 + x))
    if code == ATAN:
        return 1.0 / (1.0 + x * x)
    if code == SINH:
        return cosh(x)
    if code == COSH:
        return sinh(x)
    if code == ASINH:
        return 1.0 / hypot(1.0, x)
    if code == ACOSH:
        return 1.0 / (sqrt(x - 1.0) * sqrt(x + 1.0))
    return 1.0 / ((1.0 - x) * (1.0 + x))


@kernel
def _trigonometry(code, x, dy, y):
    i = cuda.grid(1)
    while i < x.size:
        u = np.float64(x[i])
        y[i] = dy[i] * _slope(code - SLOPE, u) if code >= SLOPE else _value(code, u)
        i += cuda.gridsize(1)


def trigonometry(code, x, dy, y):
    """y = f(x), or y = dy f'(x), element by element; y may be x or dy. code: see opcodes.py; dy is read for a
    derivative alone.
    """
    spread(_trigonometry, x.size, code, x, dy, y)
