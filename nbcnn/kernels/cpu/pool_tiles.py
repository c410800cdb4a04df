"""The maximum over windows that tile the picture, without overlap or rest.

Pixels and windows lie channels last. Other windows are in pool.py, whose rules for NaN hold here too.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu import simd
from nbcnn.kernels.cpu.compare import maximum
from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = ["max_pool_tiles"]


@serial
def _largest(x, at, left, taps, line):
    """The largest of a window's registers, of which `left` lanes are there."""
    best = simd.load_first(x, at, left)
    for h in range(taps[0]):
        for w in range(taps[1]):
            best = maximum(best, simd.load_first(x, at + h * line + w * taps[2], left))
    return best


@serial
def _pool_line(task, x, y, shape, taps):
    _lines, out_w, channels = shape
    line = out_w * taps[1] * channels
    for w in range(out_w):
        at, place = task * taps[0] * line + w * taps[1] * channels, (task * out_w + w) * channels
        for c in range(0, channels, simd.lanes(y)):
            left = channels - c
            simd.store_first(y, place + c, _largest(x, at + c, left, (taps[0], taps[1], channels), line), left)


@kernel
def max_pool_tiles(x, y, shape, taps):
    """y (line, w, c) = the largest pixel of each window of x (line, h, w, c).

    shape: (lines of all pictures, w, c) of y; taps: (h, w) of a window.
    """
    for index in prange(shape[0]):
        task = np.int64(index)
        _pool_line(task, x, y, shape, taps)
