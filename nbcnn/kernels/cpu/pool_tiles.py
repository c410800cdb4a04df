"""The maximum over windows that tile the picture, without overlap or rest, and its gradient.

Every pixel belongs to one window, so the gradient is written once and where it lies: no zeros first, no adding. Pixels
and windows lie channels last. Other windows are in pool.py, whose rules for equal values and NaN hold here too.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu import simd
from nbcnn.kernels.cpu.compare import choose_equal, maximum
from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = ["max_pool_tiles", "max_pool_tiles_grad"]


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


@serial
def _grad_line(task, x, dy, dx, shape, taps):
    _lines, out_w, channels = shape
    line = out_w * taps[1] * channels
    nothing = simd.zeros(dx)
    for w in range(out_w):
        at, place = task * taps[0] * line + w * taps[1] * channels, (task * out_w + w) * channels
        for c in range(0, channels, simd.lanes(dx)):
            left = channels - c
            best = _largest(x, at + c, left, (taps[0], taps[1], channels), line)
            rest = simd.load_first(dy, place + c, left)
            for h in range(taps[0]):
                for k in range(taps[1]):
                    pixel = at + c + h * line + k * channels
                    value = simd.load_first(x, pixel, left)
                    simd.store_first(dx, pixel, choose_equal(value, best, rest, nothing), left)
                    rest = choose_equal(value, best, nothing, rest)


@kernel
def max_pool_tiles_grad(x, dy, dx, shape, taps):
    """dx (line, h, w, c) = dy (line, w, c) at the first of each window's pixels that equals its maximum, else zero."""
    for index in prange(shape[0]):
        task = np.int64(index)
        _grad_line(task, x, dy, dx, shape, taps)
