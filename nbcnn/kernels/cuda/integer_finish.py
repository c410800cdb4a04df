"""What becomes of sums of integer products: themselves, numbers or bytes, as the type of the result has it."""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda._cuda import device
from nbcnn.kernels.cuda.memory import WIDTH, aligned, store
from nbcnn.kernels.cuda.rounding import nearest

__all__ = ["finish"]


@device
def _store_first(y, at, left, a, b, c, d):
    """y[at], ... = a, b, c, d, of which `left` are there, one at least."""
    if left >= WIDTH and aligned(y, at):
        store(y, at, a, b, c, d)
    else:
        y[at] = a
        if left > 1:
            y[at + 1] = b
        if left > 2:
            y[at + 2] = c
        if left > 3:
            y[at + 3] = d


@device
def _held(total, factor, low, high):
    real = np.float32(total) * factor
    real = real if real > low else low
    return high if real > high else real


@device
def finish(y, at, left, sums, factors, zero, low, high):
    """y[at], ..., of which `left` are there, one at least = four sums (int32), where y is of int32. Else times their
    factors, held between low and high, and for bytes rounded half to even, plus zero.
    """
    # The compiler knows the type of y, and leaves out what it is not.
    if y.itemsize > 1 and y.dtype.type(0.5) == 0:
        _store_first(y, at, left, sums[0], sums[1], sums[2], sums[3])
        return
    a, b = _held(sums[0], factors[0], low, high), _held(sums[1], factors[1], low, high)
    c, d = _held(sums[2], factors[2], low, high), _held(sums[3], factors[3], low, high)
    if y.itemsize > 1:
        _store_first(y, at, left, a, b, c, d)
    else:
        _store_first(y, at, left, nearest(a) + zero, nearest(b) + zero, nearest(c) + zero, nearest(d) + zero)
