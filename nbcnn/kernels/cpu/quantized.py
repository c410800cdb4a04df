"""Sums, means and functions of quantized bytes. Real values are (byte - zero point) * scale."""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.byte_table import look_up_bytes
from nbcnn.kernels.cpu.jit import kernel, serial, small_kernel
from nbcnn.kernels.cpu.rounding import divide, nearest

__all__ = ["look_up", "quantized_add", "quantized_mean", "requantize_table"]

BLOCK = 8192


@serial
def _add(a, b, y, by_a, by_b, shift, low, high, zero):
    for i in range(y.size):
        v = np.float32(np.int32(a[i])) * by_a + np.float32(np.int32(b[i])) * by_b + shift
        v = v if v > low else low
        v = high if v > high else v
        y[i] = nearest(v) + zero


@kernel
def quantized_add(a, b, y, a_scale, b_scale, y_scale, zeros, low, high):
    """y = round(held between low and high(a + b, in steps of y)) + zero. zeros: the zero points of a, b and y."""
    by_a = divide(np.float32(a_scale[0]), np.float32(y_scale[0]))
    by_b = divide(np.float32(b_scale[0]), np.float32(y_scale[0]))
    shift = -by_a * np.float32(zeros[0]) - by_b * np.float32(zeros[1])
    for index in prange((y.size + BLOCK - 1) // BLOCK):
        first = np.int64(index) * BLOCK
        last = min(first + BLOCK, y.size)
        _add(
            a[first:last], b[first:last], y[first:last], by_a, by_b, shift, np.float32(low), np.float32(high),
            np.int32(zeros[2]),
        )  # fmt: skip


@serial
def _add_rows(x, sums):
    for c in range(sums.size):
        sums[c] += np.int32(x[c])


@serial
def _mean(image, x, y, sums, pixels, channels, by, x_zero, zero, low, high):
    for c in range(channels):
        sums[c] = 0
    for pixel in range(pixels):
        start = (image * pixels + pixel) * channels
        _add_rows(x[start : start + channels], sums)
    for c in range(channels):
        v = np.float32(sums[c] - np.int32(pixels * x_zero)) * by
        v = v if v > low else low
        v = high if v > high else v
        y[image * channels + c] = nearest(v) + zero


@kernel
def quantized_mean(x, y, sums, x_scale, y_scale, shape, zeros, low, high):
    """y (n, c) = the mean of x (n, pixels, c) over its pixels, in steps of y. shape: of x. zeros: the zero points of x
    and y. sums: int32, as large as y.
    """
    images, pixels, channels = shape
    by = divide(np.float32(x_scale[0]), np.float32(y_scale[0]) * np.float32(pixels))
    for index in prange(images):
        image = np.int64(index)
        own = sums[image * channels : (image + 1) * channels]
        _mean(
            image, x, y, own, pixels, channels, by, np.int64(zeros[0]), np.int32(zeros[1]), np.float32(low),
            np.float32(high),
        )  # fmt: skip


@kernel
def look_up(x, y, table):
    """y = table[x], bytes."""
    for index in prange((y.size + BLOCK - 1) // BLOCK):
        first = np.int64(index) * BLOCK
        last = min(first + BLOCK, y.size)
        look_up_bytes(x[first:last], y[first:last], table)


@small_kernel
def requantize_table(x_scale, y_scale, table, zeros, low, high):
    """table (256) = what becomes of each byte of a quantization x in another one y: held between low and high, in steps
    of y, rounded, and shifted. zeros: the zero points of x and y.
    """
    floor, ceiling = np.float32(low), np.float32(high)
    for i in range(table.size):
        v = divide(np.float32(i - zeros[0]) * np.float32(x_scale[0]), np.float32(y_scale[0]))
        v = v if v > floor else floor
        v = ceiling if v > ceiling else v
        table[i] = nearest(v) + zeros[1]
