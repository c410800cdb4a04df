"""Pooling over windows of one to three spatial dimensions: maximum, average, p-norm.

See kernels/cpu/pool.py for `size`, `form` and `table`. Each thread gathers the windows of one pixel of the output, for
four channels (channels.py). `steps` are the elements between the taps of a window along d, h and w.

The taps of a plane are one loop, not two, because the compiler lets loads of several turns of the innermost loop be on
their way at once.
"""

from __future__ import annotations

import math

from nbcnn.kernels.cuda._cuda import cuda, device, kernel, spread
from nbcnn.kernels.cuda.channels import fours, in_fours, lanes_of, larger, read_fours, write_fours
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.memory import get
from nbcnn.kernels.cuda.windows import entries, next_tap, pixels_of, place_of, steps_of, window_of
from nbcnn.kernels.opcodes import AVERAGE, MAXIMUM

__all__ = ["max_pool_indices", "max_pool_taps", "pool"]


@kernel
def _largest(x, y, count, lanes, size, form, steps, table):
    i = cuda.grid(1)
    while i < count:
        pixel, channels = divide(i, lanes), size[4]
        wide = in_fours(x, channels) and in_fours(y, channels)
        p, q, r, s = fours(remainder(i, lanes), lanes, channels, wide)
        first, taps_d, taps_h, taps_w = window_of(place_of(pixel, form), size, form, table)
        a = b = c = d = y.dtype.type(-math.inf)
        for k_d in range(taps_d):
            at, tap, column = first * channels + k_d * steps[0], 0, 0
            while tap < taps_h * taps_w:
                u, v, w, z = read_fours(x, at, p, q, r, s, wide)
                a, b, c, d = larger(a, u), larger(b, v), larger(c, w), larger(d, z)
                tap += 1
                column, at = next_tap(column, at, taps_w, steps)
        write_fours(y, pixel * channels, p, q, r, s, a, b, c, d, wide)
        i += cuda.gridsize(1)


@kernel
def _mean(x, y, count, lanes, size, form, steps, table):
    i = cuda.grid(1)
    while i < count:
        pixel, channels = divide(i, lanes), size[4]
        wide = in_fours(x, channels) and in_fours(y, channels)
        p, q, r, s = fours(remainder(i, lanes), lanes, channels, wide)
        position = place_of(pixel, form)
        first, taps_d, taps_h, taps_w = window_of(position, size, form, table)
        a = b = c = d = y.dtype.type(0)
        for k_d in range(taps_d):
            at, tap, column = first * channels + k_d * steps[0], 0, 0
            while tap < taps_h * taps_w:
                u, v, w, z = read_fours(x, at, p, q, r, s, wide)
                a, b, c, d = a + u, b + v, c + w, d + z
                tap += 1
                column, at = next_tap(column, at, taps_w, steps)
        counted_d, counted_h, counted_w = entries(position, form, table, 2)
        share = y.dtype.type(1 / max(counted_d * counted_h * counted_w, 1))
        write_fours(y, pixel * channels, p, q, r, s, a * share, b * share, c * share, d * share, wide)
        i += cuda.gridsize(1)


@kernel
def _norm(power, x, y, count, size, form, steps, table):
    i = cuda.grid(1)
    while i < count:
        pixel, channels = divide(i, size[4]), size[4]
        first, taps_d, taps_h, taps_w = window_of(place_of(pixel, form), size, form, table)
        total = y.dtype.type(0)
        for k_d in range(taps_d):
            at, tap, column = first * channels + remainder(i, channels) + k_d * steps[0], 0, 0
            while tap < taps_h * taps_w:
                value = get(x, at)
                total += value * value if power == 2 else abs(value) ** power
                tap += 1
                column, at = next_tap(column, at, taps_w, steps)
        y[i] = math.sqrt(total) if power == 2 else total ** (1 / power)
        i += cuda.gridsize(1)


def pool(mode, power, x, y, size, form, table, block):
    """y (n, out..., c) = maximum, mean or p-norm of each window of x (n, d, h, w, c); padding takes no part.

    power: of the norm, a scalar of the element type. block: for the CPU.
    """
    lanes, pixels, steps = lanes_of(size[4]), pixels_of(size, form), steps_of(size, form)
    if mode in (MAXIMUM, AVERAGE):
        code = _largest if mode == MAXIMUM else _mean
        spread(code, pixels * lanes, x, y, pixels * lanes, lanes, size, form, steps, table)
    else:
        spread(_norm, pixels * size[4], power, x, y, pixels * size[4], size, form, steps, table)


# --- where the maximum lies -------------------------------------------------------------------------------------------


@device
def _first_larger(best, tap, value, number):
    """The larger one, or NaN, and its tap: the first of equals."""
    takes = value > best or (math.isnan(value) and not math.isnan(best))
    return value if takes else best, number if takes else tap


@kernel
def _taps(x, y, found, count, lanes, size, form, steps, table, kernel_shape):
    i = cuda.grid(1)
    while i < count:
        pixel, channels = divide(i, lanes), size[4]
        wide = in_fours(x, channels) and in_fours(y, channels) and in_fours(found, channels)
        p, q, r, s = fours(remainder(i, lanes), lanes, channels, wide)
        position = place_of(pixel, form)
        first, taps_d, taps_h, taps_w = window_of(position, size, form, table)
        number_d, number_h, number_w = entries(position, form, table, 3)
        a = b = c = d = y.dtype.type(-math.inf)
        tap_a = tap_b = tap_c = tap_d = (number_d * kernel_shape[1] + number_h) * kernel_shape[2] + number_w
        for k_d in range(taps_d):
            at, tap, column = first * channels + k_d * steps[0], 0, 0
            number = ((number_d + k_d) * kernel_shape[1] + number_h) * kernel_shape[2] + number_w
            while tap < taps_h * taps_w:
                u, v, w, z = read_fours(x, at, p, q, r, s, wide)
                a, tap_a = _first_larger(a, tap_a, u, number)
                b, tap_b = _first_larger(b, tap_b, v, number)
                c, tap_c = _first_larger(c, tap_c, w, number)
                d, tap_d = _first_larger(d, tap_d, z, number)
                tap += 1
                number += kernel_shape[2] - taps_w + 1 if column + 1 == taps_w else 1
                column, at = next_tap(column, at, taps_w, steps)
        write_fours(y, pixel * channels, p, q, r, s, a, b, c, d, wide)
        write_fours(found, pixel * channels, p, q, r, s, tap_a, tap_b, tap_c, tap_d, wide)
        i += cuda.gridsize(1)


def max_pool_taps(x, y, found, size, form, table, kernel_shape):
    """y (n, out..., c) = the maximum of each window of x (n, d, h, w, c); found: the number of the first tap, row-major
    in kernel_shape (d, h, w), that holds it, or NaN.
    """
    lanes, steps = lanes_of(size[4]), steps_of(size, form)
    count = pixels_of(size, form) * lanes
    spread(_taps, count, x, y, found, count, lanes, size, form, steps, table, kernel_shape)


@kernel
def _indices(x, y, indices, count, size, form, table, order):
    i = cuda.grid(1)
    while i < count:
        _, in_d, in_h, in_w, channels = size
        position, channel = place_of(divide(i, channels), form), remainder(i, channels)
        image, maximum, found = position[0], y[i], -1
        top_d, top_h, top_w = entries(position, form, table, 0)
        taps_d, taps_h, taps_w = entries(position, form, table, 1)
        for tap in range(taps_d * taps_h * taps_w):
            d = top_d + divide(tap, taps_h * taps_w) * form[3]
            h = top_h + remainder(divide(tap, taps_w), taps_h) * form[4]
            w = top_w + remainder(tap, taps_w) * form[5]
            value = get(x, (((image * in_d + d) * in_h + h) * in_w + w) * channels + channel)
            if found < 0 and (value == maximum or math.isnan(value)):
                inner = d * order[0] + h * order[1] + w * order[2]
                found = (image * channels + channel) * (in_d * in_h * in_w) + inner
        indices[i] = found
        i += cuda.gridsize(1)


def max_pool_indices(x, y, indices, size, form, table, order):
    """indices (n, out..., c), int64: where each maximum y first lies in x, counted in ONNX order (n, c, spatial...).

    order: strides of (d, h, w) within a channel (those of storage_order 0 or 1).
    """
    count = pixels_of(size, form) * size[4]
    spread(_indices, count, x, y, indices, count, size, form, table, order)
