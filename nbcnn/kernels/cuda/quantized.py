"""Sums, means and functions of quantized bytes. Real values are (byte - zero point) * scale."""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, device, kernel, launch, spread
from nbcnn.kernels.cuda.memory import WIDTH, aligned, load, store
from nbcnn.kernels.cuda.rounding import nearest

__all__ = ["look_up", "quantized_add", "quantized_mean", "requantize_table"]

LANES = 32
"""Neighbouring channels whose means a block computes."""
BYTES = 256


@device
def _held(real, low, high, zero):
    """A real number as a byte: between low and high, rounded, and shifted by the zero point."""
    real = real if real > low else low
    return nearest(high if real > high else real) + zero


@device
def _sum(a, b, by_a, by_b, shift):
    return np.float32(a) * by_a + np.float32(b) * by_b + shift


@kernel
def _add(a, b, y, a_scale, b_scale, y_scale, zeros, low, high):
    step = np.float32(y_scale[0])
    by_a, by_b = np.float32(a_scale[0]) / step, np.float32(b_scale[0]) / step
    shift = -by_a * np.float32(zeros[0]) - by_b * np.float32(zeros[1])
    zero = zeros[2]
    whole = y.size // WIDTH * WIDTH if aligned(a, 0) and aligned(b, 0) and aligned(y, 0) else 0
    for i in range(WIDTH * cuda.grid(1), whole, WIDTH * cuda.gridsize(1)):
        a0, a1, a2, a3 = load(a, i)
        b0, b1, b2, b3 = load(b, i)
        store(
            y,
            i,
            _held(_sum(a0, b0, by_a, by_b, shift), low, high, zero),
            _held(_sum(a1, b1, by_a, by_b, shift), low, high, zero),
            _held(_sum(a2, b2, by_a, by_b, shift), low, high, zero),
            _held(_sum(a3, b3, by_a, by_b, shift), low, high, zero),
        )
    for i in range(whole + cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = _held(_sum(a[i], b[i], by_a, by_b, shift), low, high, zero)


def quantized_add(a, b, y, a_scale, b_scale, y_scale, zeros, low, high):
    """y = round(held between low and high(a + b, in steps of y)) + zero. zeros: the zero points of a, b and y."""
    bounds = np.float32(low), np.float32(high)
    spread(_add, -(-y.size // WIDTH), a, b, y, a_scale, b_scale, y_scale, zeros, *bounds)


@kernel
def _mean(x, y, x_scale, y_scale, shape, zeros, low, high):
    _images, pixels, channels = shape
    sums = cuda.shared.array(BLOCK, np.int32)
    lane, line = cuda.threadIdx.x, cuda.threadIdx.y
    own = line * LANES + lane
    image, channel = cuda.blockIdx.x, cuda.blockIdx.y * LANES + lane
    found = np.int32(0)
    if channel < channels:
        for pixel in range(line, pixels, cuda.blockDim.y):
            found += np.int32(x[(image * pixels + pixel) * channels + channel])
    sums[own] = found
    cuda.syncthreads()
    if line == 0 and channel < channels:
        for i in range(own + LANES, BLOCK, LANES):
            found += sums[i]
        by = np.float32(x_scale[0]) / (np.float32(y_scale[0]) * np.float32(pixels))
        real = np.float32(np.int32(found - pixels * zeros[0])) * by
        y[image * channels + channel] = _held(real, low, high, zeros[1])


def quantized_mean(x, y, sums, x_scale, y_scale, shape, zeros, low, high):
    """y (n, c) = the mean of x (n, pixels, c) over its pixels, in steps of y. shape: of x. zeros: the zero points of x
    and y. sums: not used.
    """
    images, _pixels, channels = shape
    grid = (images, -(-channels // LANES))
    bounds = np.float32(low), np.float32(high)
    launch(_mean, grid, (LANES, BLOCK // LANES), x, y, x_scale, y_scale, shape, zeros, *bounds)


@kernel
def _look_up(x, y, table):
    near = cuda.shared.array(BYTES, np.uint8)
    for i in range(cuda.threadIdx.x, BYTES, cuda.blockDim.x):
        near[i] = table[i]
    cuda.syncthreads()
    whole = y.size // WIDTH * WIDTH if aligned(x, 0) and aligned(y, 0) else 0
    for i in range(WIDTH * cuda.grid(1), whole, WIDTH * cuda.gridsize(1)):
        a, b, c, d = load(x, i)
        store(y, i, near[a], near[b], near[c], near[d])
    for i in range(whole + cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = near[x[i]]


def look_up(x, y, table):
    """y = table[x], bytes."""
    spread(_look_up, -(-y.size // WIDTH), x, y, table)


@kernel
def _table(x_scale, y_scale, table, zeros, low, high):
    for i in range(cuda.grid(1), table.size, cuda.gridsize(1)):
        steps = np.float32(i - zeros[0]) * np.float32(x_scale[0]) / np.float32(y_scale[0])
        table[i] = _held(steps, low, high, zeros[1])


def requantize_table(x_scale, y_scale, table, zeros, low, high):
    """table (256) = what becomes of each byte of a quantization x in another one y: held between low and high, in steps
    of y, rounded, and shifted. zeros: the zero points of x and y.
    """
    spread(_table, table.size, x_scale, y_scale, table, zeros, np.float32(low), np.float32(high))
