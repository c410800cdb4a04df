"""The maximum and the mean of windows of bytes. As pool.py, a thread gathers four channels of a pixel of the output."""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda._cuda import cuda, device, kernel, spread
from nbcnn.kernels.cuda.channels import fours, in_fours, lanes_of, read_fours, write_fours
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.rounding import nearest
from nbcnn.kernels.cuda.windows import entries, next_tap, pixels_of, place_of, steps_of, window_of

__all__ = ["max_pool_bytes", "mean_pool_bytes"]


@device
def _larger(best, value):
    return value if value > best else best


@kernel
def _largest(x, y, lowest, count, lanes, size, form, steps, table):
    i = cuda.grid(1)
    while i < count:
        pixel, channels = divide(i, lanes), size[4]
        wide = in_fours(x, channels) and in_fours(y, channels)
        p, q, r, s = fours(remainder(i, lanes), lanes, channels, wide)
        first, taps_d, taps_h, taps_w = window_of(place_of(pixel, form), size, form, table)
        a = b = c = d = lowest
        for k_d in range(taps_d):
            at, tap, column = first * channels + k_d * steps[0], 0, 0
            while tap < taps_h * taps_w:
                u, v, w, z = read_fours(x, at, p, q, r, s, wide)
                a, b, c, d = _larger(a, u), _larger(b, v), _larger(c, w), _larger(d, z)
                tap += 1
                column, at = next_tap(column, at, taps_w, steps)
        write_fours(y, pixel * channels, p, q, r, s, a, b, c, d, wide)
        i += cuda.gridsize(1)


def max_pool_bytes(x, y, lines, lowest, size, form, table, along):
    """y (n, out..., c) = the maximum of each window of x (n, d, h, w, c), 8-bit integers; `lowest`, where a window
    meets none. lines, along: for the CPU.
    """
    lanes, steps = lanes_of(size[4]), steps_of(size, form)
    count = pixels_of(size, form) * lanes
    spread(_largest, count, x, y, lowest, count, lanes, size, form, steps, table)


@device
def _held(total, shift, by, low, high, zero):
    """A sum as a byte: in steps, between low and high, rounded, and shifted by the zero point."""
    real = np.float32(np.int32(total - shift)) * by
    real = real if real > low else low
    return nearest(high if real > high else real) + zero


@kernel
def _mean(x, y, x_scale, y_scale, count, lanes, size, form, steps, table, zeros, low, high):
    i = cuda.grid(1)
    while i < count:
        pixel, channels = divide(i, lanes), size[4]
        wide = in_fours(x, channels) and in_fours(y, channels)
        p, q, r, s = fours(remainder(i, lanes), lanes, channels, wide)
        place = place_of(pixel, form)
        first, taps_d, taps_h, taps_w = window_of(place, size, form, table)
        a = b = c = d = np.int32(0)
        for k_d in range(taps_d):
            at, tap, column = first * channels + k_d * steps[0], 0, 0
            while tap < taps_h * taps_w:
                u, v, w, z = read_fours(x, at, p, q, r, s, wide)
                a, b, c, d = a + np.int32(u), b + np.int32(v), c + np.int32(w), d + np.int32(z)
                tap += 1
                column, at = next_tap(column, at, taps_w, steps)
        counted_d, counted_h, counted_w = entries(place, form, table, 2)
        by = np.float32(x_scale[0]) / (np.float32(y_scale[0]) * np.float32(max(counted_d * counted_h * counted_w, 1)))
        shift, zero = taps_d * taps_h * taps_w * zeros[0], zeros[1]
        write_fours(
            y,
            pixel * channels,
            p,
            q,
            r,
            s,
            _held(a, shift, by, low, high, zero),
            _held(b, shift, by, low, high, zero),
            _held(c, shift, by, low, high, zero),
            _held(d, shift, by, low, high, zero),
            wide,
        )
        i += cuda.gridsize(1)


def mean_pool_bytes(x, y, lines, x_scale, y_scale, size, form, table, along, zeros, low, high):
    """y (n, out..., c) = the mean of each window of x (n, d, h, w, c), bytes, held between low and high, in steps of y.
    zeros: the zero points of x and y. lines, along: for the CPU.
    """
    lanes, steps = lanes_of(size[4]), steps_of(size, form)
    count, bounds = pixels_of(size, form) * lanes, (np.float32(low), np.float32(high))
    spread(_mean, count, x, y, x_scale, y_scale, count, lanes, size, form, steps, table, zeros, *bounds)
