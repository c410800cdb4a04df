"""Floats to quantized integers and back, exactly as ONNX says: divided, rounded half to even, shifted, saturated.

Runs and steps are those of nbcnn/kernels/cpu/quantize.py. Where all elements have one scale, a thread takes four.
"""

from __future__ import annotations

import math

import numpy as np

from nbcnn.kernels.cuda._cuda import SIMULATED, cuda, device, kernel, launch, spread
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.memory import WIDTH, aligned, load, store
from nbcnn.kernels.cuda.rounding import nearest

__all__ = ["dequantize", "dynamic_scale", "quantize"]

THREADS = 32 if SIMULATED else 1024
"""Threads of the one block that looks for the range of an array."""


@device
def _scale_of(i, length, apart, steps):
    """Which scale element i has."""
    count, block, by_outer, by_block = steps
    run = divide(i, length)
    place = divide(run, count) * by_outer + divide(remainder(run, count), block) * by_block
    return place + remainder(i, length) if apart else place


@device
def _shift_of(zero, place):
    """The zero point that belongs to a scale."""
    return np.int64(zero[place]) if zero.size > 0 else np.int64(0)


@device
def _saturated(steps, shift, low, high):
    """A float, rounded and shifted, between low and high; NaN becomes the lowest integer."""
    if math.isnan(steps):
        return low
    return min(max(np.int64(nearest(steps)) + shift, low), high)


@kernel
def _quantize_alike(x, scale, zero, y, low, high):
    step, shift = scale[0], _shift_of(zero, 0)
    whole = y.size // WIDTH * WIDTH if aligned(x, 0) and aligned(y, 0) else 0
    for i in range(WIDTH * cuda.grid(1), whole, WIDTH * cuda.gridsize(1)):
        a, b, c, d = load(x, i)
        p, q = _saturated(a / step, shift, low, high), _saturated(b / step, shift, low, high)
        r, s = _saturated(c / step, shift, low, high), _saturated(d / step, shift, low, high)
        store(y, i, p, q, r, s)
    for i in range(whole + cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = _saturated(x[i] / step, shift, low, high)


@kernel
def _quantize(x, scale, zero, y, length, apart, steps, low, high):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        place = _scale_of(i, length, apart, steps)
        y[i] = _saturated(x[i] / scale[place], _shift_of(zero, place), low, high)


def quantize(x, scale, zero, y, length, apart, steps, bounds):
    """y = saturate(round(x / scale) + zero), in runs of `length`; zero may be empty.

    apart: 1 where each element of a run has a scale of its own. bounds: the lowest and the highest integer of y.
    """
    if scale.size == 1:
        spread(_quantize_alike, -(-y.size // WIDTH), x, scale, zero, y, *bounds)
    else:
        spread(_quantize, y.size, x, scale, zero, y, length, apart, steps, *bounds)


@device
def _real(y, value, shift, scale):
    """(value - shift) * scale, in the type of y. The difference is of 32 bits, as the CPU's."""
    return y.dtype.type(np.int32(value - shift)) * scale


@kernel
def _dequantize_alike(x, scale, zero, y):
    step, shift = scale[0], _shift_of(zero, 0)
    whole = y.size // WIDTH * WIDTH if aligned(x, 0) and aligned(y, 0) else 0
    for i in range(WIDTH * cuda.grid(1), whole, WIDTH * cuda.gridsize(1)):
        a, b, c, d = load(x, i)
        p, q, r, s = (
            _real(y, a, shift, step),
            _real(y, b, shift, step),
            _real(y, c, shift, step),
            _real(y, d, shift, step),
        )
        store(y, i, p, q, r, s)
    for i in range(whole + cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = _real(y, x[i], shift, step)


@kernel
def _dequantize(x, scale, zero, y, length, apart, steps):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        place = _scale_of(i, length, apart, steps)
        y[i] = _real(y, x[i], _shift_of(zero, place), scale[place])


def dequantize(x, scale, zero, y, length, apart, steps):
    """y = (x - zero) * scale, as `quantize`."""
    if scale.size == 1:
        spread(_dequantize_alike, -(-y.size // WIDTH), x, scale, zero, y)
    else:
        spread(_dequantize, y.size, x, scale, zero, y, length, apart, steps)


@device
def _lower(value, least):
    """The lower one; what is no number counts for nothing."""
    return value if value < least else least


@device
def _higher(value, greatest):
    """The higher one; what is no number counts for nothing."""
    return value if value > greatest else greatest


@kernel
def _dynamic_scale(x, scale, zero):
    lowest = cuda.shared.array(THREADS, scale.dtype)
    highest = cuda.shared.array(THREADS, scale.dtype)
    own = cuda.threadIdx.x
    least = greatest = x.dtype.type(0)
    whole = x.size // WIDTH * WIDTH if aligned(x, 0) else 0
    for i in range(WIDTH * own, whole, WIDTH * THREADS):
        a, b, c, d = load(x, i)
        least = _lower(a, _lower(b, _lower(c, _lower(d, least))))
        greatest = _higher(a, _higher(b, _higher(c, _higher(d, greatest))))
    for i in range(whole + own, x.size, THREADS):
        least, greatest = _lower(x[i], least), _higher(x[i], greatest)
    lowest[own], highest[own] = least, greatest
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if own < half:
            lowest[own] = _lower(lowest[own + half], lowest[own])
            highest[own] = _higher(highest[own + half], highest[own])
        cuda.syncthreads()
        half //= 2
    if own == 0:
        least, greatest = lowest[0], highest[0]
        top = x.dtype.type(255)
        step = x.dtype.type(1) / top if greatest == least else (greatest - least) / top
        scale[0] = step
        zero[0] = _saturated(-least / step, 0, 0, 255)


def dynamic_scale(x, scale, zero):
    """scale (1) and zero (1), uint8, that spread the range of x, which zero is a part of, over 0..255."""
    launch(_dynamic_scale, 1, THREADS, x, scale, zero)
