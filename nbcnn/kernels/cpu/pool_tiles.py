"""The maximum or mean of windows that tile the picture, without overlap or rest.

Pixels and windows lie channels last. Other windows are in pool.py, whose rules for NaN hold here too.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu import simd
from nbcnn.kernels.cpu.compare import maximum
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.opcodes import MAXIMUM

__all__ = ["pool_tiles"]

WIDE = 4
"""Registers of channels above which taps are taken one after the other, through y: a tap of all channels is one stream
of memory, a register of all taps as many streams as taps, which are served at half the speed.
"""


@serial
def _window(mode, x, y, at, place, channels, taps, line, share):
    """A register of channels after the other."""
    for c in range(0, channels, simd.lanes(y)):
        left = channels - c
        value = simd.load_first(x, at + c, left) if mode == MAXIMUM else simd.zeros(y)
        for h in range(taps[0]):
            for w in range(taps[1]):
                found = simd.load_first(x, at + c + h * line + w * channels, left)
                value = maximum(value, found) if mode == MAXIMUM else simd.add(value, found)
        if mode != MAXIMUM:
            value = simd.mul(value, share)
        simd.store_first(y, place + c, value, left)


@serial
def _wide_window(mode, x, y, at, place, channels, taps, line, share):
    """A tap after the other."""
    last = taps[0] * taps[1] - 1
    for tap in range(last + 1):
        pixel = at + tap // taps[1] * line + tap % taps[1] * channels
        for c in range(0, channels, simd.lanes(y)):
            left = channels - c
            value = simd.load_first(x, pixel + c, left)
            if tap > 0:
                found = simd.load_first(y, place + c, left)
                value = maximum(found, value) if mode == MAXIMUM else simd.add(found, value)
            if tap == last and mode != MAXIMUM:
                value = simd.mul(value, share)
            simd.store_first(y, place + c, value, left)


@serial
def _pool_line(task, mode, x, y, shape, taps):
    _lines, out_w, channels = shape
    line = out_w * taps[1] * channels
    share = simd.broadcast(y, y.dtype.type(1 / (taps[0] * taps[1])))
    for w in range(out_w):
        at, place = task * taps[0] * line + w * taps[1] * channels, (task * out_w + w) * channels
        if channels > WIDE * simd.lanes(y):
            _wide_window(mode, x, y, at, place, channels, taps, line, share)
        else:
            _window(mode, x, y, at, place, channels, taps, line, share)


@kernel
def pool_tiles(mode, x, y, shape, taps):
    """y (line, w, c) = the maximum or mean of each window of x (line, h, w, c).

    shape: (lines of all pictures, w, c) of y; taps: (h, w) of a window.
    """
    for index in prange(shape[0]):
        task = np.int64(index)
        _pool_line(task, mode, x, y, shape, taps)
