"""What becomes of a sum of integer products: itself, a number, or a byte."""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda._cuda import device
from nbcnn.kernels.cuda.memory import WIDTH, aligned, store
from nbcnn.kernels.cuda.rounding import nearest

__all__ = ["FINISH", "finish_of", "store_first"]


@device
def _as_sum(total, factor, zero, low, high):
    return total


@device
def _as_real(total, factor, zero, low, high):
    real = np.float32(total) * factor
    real = real if real > low else low
    return high if real > high else real


@device
def _as_byte(total, factor, zero, low, high):
    return nearest(_as_real(total, factor, zero, low, high)) + zero


FINISH = {"int32": _as_sum, "float32": _as_real, "byte": _as_byte}
"""Device functions of a sum (int32), its scale, and the zero point and bounds of the result."""


def finish_of(dtype: np.dtype) -> str:
    """Which one makes elements of this type."""
    return "byte" if dtype.itemsize == 1 else dtype.name


@device
def store_first(y, at, left, a, b, c, d):
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
