"""Floats to quantized integers and back, exactly as ONNX says: divided, rounded half to even, shifted, saturated.

Arrays are flat. A *run* is a stretch of neighbours that have one scale, or the scales of neighbouring channels; which
scale run r begins with is told by `steps`: (outer, count, block, by outer, by block): r // count * by outer +
r % count // block * by block.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial, small_kernel
from nbcnn.kernels.cpu.rounding import divide, nearest

__all__ = ["dequantize", "dynamic_scale", "quantize"]

TASK = 4096
"""Elements of a task, where there are more."""


@serial
def _scale_of(run, steps):
    count, block, by_outer, by_block = steps
    return run // count * by_outer + run % count // block * by_block


@serial
def _quantize_alike(x, y, scale, zero, low, high):
    """A run of one scale. NaN becomes the lowest integer."""
    floor, ceiling = x.dtype.type(low - zero), x.dtype.type(high - zero)
    for i in range(y.size):
        v = divide(x[i], scale)
        v = v if v > floor else floor
        v = ceiling if v > ceiling else v
        y[i] = nearest(v) + zero


@serial
def _quantize_apart(x, y, scale, zero, low, high):
    """A run of one scale for each element."""
    for i in range(y.size):
        shift = np.int32(zero[i]) if zero.size > 0 else np.int32(0)
        floor, ceiling = x.dtype.type(low - shift), x.dtype.type(high - shift)
        v = divide(x[i], scale[i])
        v = v if v > floor else floor
        v = ceiling if v > ceiling else v
        y[i] = nearest(v) + shift


@serial
def _quantize_runs(first, last, x, scale, zero, y, length, apart, steps, low, high):
    for run in range(first, last):
        begin, end, at = run * length, min(run * length + length, y.size), _scale_of(run, steps)
        if apart:
            shifts = zero[at : at + length] if zero.size > 0 else zero
            _quantize_apart(x[begin:end], y[begin:end], scale[at : at + length], shifts, low, high)
        else:
            shift = np.int32(zero[at]) if zero.size > 0 else np.int32(0)
            _quantize_alike(x[begin:end], y[begin:end], scale[at], shift, low, high)


@kernel
def quantize(x, scale, zero, y, length, apart, steps, bounds):
    """y = saturate(round(x / scale) + zero), in runs of `length`; zero may be empty.

    apart: 1 where each element of a run has a scale of its own. bounds: the lowest and the highest integer of y.
    """
    runs = (y.size + length - 1) // length
    group = max(1, TASK // length)
    for index in prange((runs + group - 1) // group):
        first = np.int64(index) * group
        last = min(first + group, runs)
        _quantize_runs(first, last, x, scale, zero, y, length, apart, steps, np.int32(bounds[0]), np.int32(bounds[1]))


@serial
def _dequantize_alike(x, y, scale, zero):
    for i in range(y.size):
        y[i] = y.dtype.type(np.int32(x[i]) - zero) * scale


@serial
def _dequantize_apart(x, y, scale, zero):
    for i in range(y.size):
        shift = np.int32(zero[i]) if zero.size > 0 else np.int32(0)
        y[i] = y.dtype.type(np.int32(x[i]) - shift) * scale[i]


@serial
def _dequantize_runs(first, last, x, scale, zero, y, length, apart, steps):
    for run in range(first, last):
        begin, end, at = run * length, min(run * length + length, y.size), _scale_of(run, steps)
        if apart:
            shifts = zero[at : at + length] if zero.size > 0 else zero
            _dequantize_apart(x[begin:end], y[begin:end], scale[at : at + length], shifts)
        else:
            shift = np.int32(zero[at]) if zero.size > 0 else np.int32(0)
            _dequantize_alike(x[begin:end], y[begin:end], scale[at], shift)


@kernel
def dequantize(x, scale, zero, y, length, apart, steps):
    """y = (x - zero) * scale, as `quantize`."""
    runs = (y.size + length - 1) // length
    group = max(1, TASK // length)
    for index in prange((runs + group - 1) // group):
        first = np.int64(index) * group
        last = min(first + group, runs)
        _dequantize_runs(first, last, x, scale, zero, y, length, apart, steps)


@small_kernel
def dynamic_scale(x, scale, zero):
    """scale (1) and zero (1), uint8, that spread the range of x, which zero is a part of, over 0..255."""
    least = greatest = x.dtype.type(0)
    for i in range(x.size):
        least = x[i] if x[i] < least else least
        greatest = x[i] if x[i] > greatest else greatest
    spread = divide(greatest - least, x.dtype.type(255))
    if greatest == least:
        spread = divide(x.dtype.type(1), x.dtype.type(255))
    scale[0] = spread
    zero[0] = nearest(min(max(divide(-least, spread), x.dtype.type(0)), x.dtype.type(255)))
