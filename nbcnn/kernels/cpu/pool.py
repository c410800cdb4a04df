"""Pooling over windows of one to three spatial dimensions: maximum, average, p-norm.

Activations lie channels last, (n, d, h, w, channels), flat. A window is worked out for VECS registers of channels at a
time, pixel after pixel, because memory is read fastest in the order in which it lies. `size` is (n, d, h, w, channels)
of the input; `form` is (out d, h, w, dilation d, h, w). `table` (int64) says for each output position on the axes d, h
and w in turn: the first pixel of its window that is inside the picture, how many are inside, how many an average
counts, and which tap meets the first. Gradients are in pool_grad.py.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu import pixels, simd, taps, tile
from nbcnn.kernels.cpu.jit import apart, kernel, serial
from nbcnn.kernels.opcodes import AVERAGE, MAXIMUM

__all__ = ["VECS", "max_pool_indices", "max_pool_taps", "pool", "span"]

VECS = 4
"""Registers of channels in a tile."""


@serial
def span(axis, o, form, table):
    """A row of the table: first pixel inside the picture, pixels inside, pixels that count, first tap."""
    at = 4 * (o + (form[0] if axis > 0 else 0) + (form[1] if axis > 1 else 0))
    return table[at], table[at + 1], table[at + 2], table[at + 3]


@serial
def _norm(power, x, at, y, place, count, box, steps):
    """y[place:] = (sum |x|^power)^(1/power) of a window, for `count` channels."""
    y[place : place + count] = 0
    for d in range(box[0]):
        for h in range(box[1]):
            for w in range(box[2]):
                pixel = at + d * steps[0] + h * steps[1] + w * steps[2]
                if power == 2:
                    for c in range(count):
                        y[place + c] += x[pixel + c] * x[pixel + c]
                else:
                    for c in range(count):
                        y[place + c] += abs(x[pixel + c]) ** power
    if power == 2:
        for c in range(count):
            y[place + c] = np.sqrt(y[place + c])
    else:
        for c in range(count):
            y[place + c] = y[place + c] ** (1 / power)


@apart
def _largest_line(x, y, base, place, count, channels, out_w, box, steps, table, row):
    """A line of maxima from y[place] on, `count` of the channels. base: of the line of x where the windows begin; row:
    of the table, where the line's positions begin. box: taps on d and h; steps: elements between them, on w too.

    A maximum that lets NaN through takes three times as long. So the values are added up on the way, and only where
    the sum is NaN, because of a NaN or of infinities, is the tile worked out again so.
    """
    width = VECS * simd.lanes(y)
    nothing = tile.zeros(y, 1, VECS)
    lowest = pixels.fill(nothing, simd.broadcast(y, y.dtype.type(-np.inf)))
    for w in range(out_w):
        first, columns = simd.get(table, row + 4 * w), simd.get(table, row + 4 * w + 1)
        for c in range(0, count, width):
            left = count - c
            whole = left >= width
            total, best = nothing, lowest
            at = base + first * channels + c
            for d in range(box[0]):
                pixel, column = at + d * steps[0], 0
                for _ in range(box[1] * columns):
                    found = tile.row(nothing, x, pixel) if whole else tile.row_first(nothing, x, pixel, left)
                    total, best = pixels.add(total, found), pixels.larger(best, found)
                    column += 1
                    pixel += steps[2]
                    if column == columns:
                        column = 0
                        pixel += steps[1] - columns * steps[2]
            if pixels.any_nan(total):
                best = _careful(lowest, x, at, left, (box[0], box[1], columns), steps)
            if whole:
                tile.spill(best, y, place + w * channels + c)
            else:
                tile.spill_first(best, y, place + w * channels + c, left)


@apart
def _careful(best, x, at, left, box, steps):
    """The larger of `best` and a window's values, for a tile of channels, or NaN."""
    for d in range(box[0]):
        for h in range(box[1]):
            for w in range(box[2]):
                found = tile.row_first(best, x, at + d * steps[0] + h * steps[1] + w * steps[2], left)
                best = pixels.maximum(best, found)
    return best


@apart
def _mean_line(x, y, base, place, count, channels, out_w, box, steps, counted, table, row):
    """As _largest_line, for means. counted: how many pixels of d and h an average counts."""
    width = VECS * simd.lanes(y)
    nothing = tile.zeros(y, 1, VECS)
    for w in range(out_w):
        first, columns = simd.get(table, row + 4 * w), simd.get(table, row + 4 * w + 1)
        share = y.dtype.type(1 / max(counted * simd.get(table, row + 4 * w + 2), 1))
        for c in range(0, count, width):
            left = count - c
            whole = left >= width
            total = nothing
            for d in range(box[0]):
                pixel, column = base + first * channels + c + d * steps[0], 0
                for _ in range(box[1] * columns):
                    found = tile.row(nothing, x, pixel) if whole else tile.row_first(nothing, x, pixel, left)
                    total = pixels.add(total, found)
                    column += 1
                    pixel += steps[2]
                    if column == columns:
                        column = 0
                        pixel += steps[1] - columns * steps[2]
            total = pixels.fma(nothing, total, simd.broadcast(y, share))
            if whole:
                tile.spill(total, y, place + w * channels + c)
            else:
                tile.spill_first(total, y, place + w * channels + c, left)


@serial
def _pool_line(task, mode, power, x, y, size, form, table, block):
    """One line of the output, a block of channels."""
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w, step_d, step_h, step_w = form
    blocks = (channels + block - 1) // block
    first = task % blocks * block
    count = min(block, channels - first)
    line = task // blocks
    h, d, image = line % out_h, line // out_h % out_d, line // out_h // out_d
    top_d, taps_d, count_d, _ = span(0, d, form, table)
    top_h, taps_h, count_h, _ = span(1, h, form, table)
    steps = (step_d * in_h * in_w * channels, step_h * in_w * channels, step_w * channels)
    base = ((image * in_d + top_d) * in_h + top_h) * in_w * channels + first
    place, box, row = line * out_w * channels + first, (taps_d, taps_h), 4 * (out_d + out_h)
    if mode == MAXIMUM:
        _largest_line(x, y, base, place, count, channels, out_w, box, steps, table, row)
    elif mode == AVERAGE:
        _mean_line(x, y, base, place, count, channels, out_w, box, steps, count_d * count_h, table, row)
    else:
        for w in range(out_w):
            top_w, taps_w, _, _ = span(2, w, form, table)
            at, wide = base + top_w * channels, (taps_d, taps_h, taps_w)
            _norm(power, x, at, y, place + w * channels, count, wide, steps)


@kernel
def pool(mode, power, x, y, size, form, table, block):
    """y (n, out..., c) = maximum, mean or p-norm of each window of x (n, d, h, w, c); padding takes no part.

    power: of the norm, a scalar of the element type. block: channels in a task.
    """
    blocks = (size[4] + block - 1) // block
    for index in prange(size[0] * form[0] * form[1] * blocks):
        task = np.int64(index)
        _pool_line(task, mode, power, x, y, size, form, table, block)


# --- where the maximum lies -------------------------------------------------------------------------------------------


@serial
def _taps_line(line, x, y, found, size, form, table, kernel_shape):
    """One line of the output."""
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w, step_d, step_h, step_w = form
    h, d, image = line % out_h, line // out_h % out_d, line // out_h // out_d
    top_d, taps_d, _, number_d = span(0, d, form, table)
    top_h, taps_h, _, number_h = span(1, h, form, table)
    lowest = pixels.fill(tile.zeros(y, 1, VECS), simd.broadcast(y, y.dtype.type(-np.inf)))
    width = VECS * simd.lanes(y)
    for w in range(out_w):
        top_w, taps_w, _, number_w = span(2, w, form, table)
        place = (line * out_w + w) * channels
        for c in range(0, channels, width):
            left = channels - c
            first = (number_d * kernel_shape[1] + number_h) * kernel_shape[2] + number_w
            best, numbers = lowest, taps.fill(lowest, first)
            for kd in range(taps_d):
                for kh in range(taps_h):
                    row = ((image * in_d + top_d + kd * step_d) * in_h + top_h + kh * step_h) * in_w
                    at = (row + top_w) * channels + c
                    number = first + (kd * kernel_shape[1] + kh) * kernel_shape[2]
                    for kw in range(taps_w):
                        value = tile.row(lowest, x, at) if left >= width else tile.row_first(lowest, x, at, left)
                        best, numbers = taps.first_larger(best, numbers, value, number + kw)
                        at += step_w * channels
            if left >= width:
                tile.spill(best, y, place + c)
                taps.store(found, place + c, numbers)
            else:
                tile.spill_first(best, y, place + c, left)
                taps.store_first(found, place + c, numbers, left)


@kernel
def max_pool_taps(x, y, found, size, form, table, kernel_shape):
    """y (n, out..., c) = the maximum of each window of x (n, d, h, w, c); found: the number of the first tap, row-major
    in kernel_shape (d, h, w), that holds it, or NaN.
    """
    for index in prange(size[0] * form[0] * form[1]):
        line = np.int64(index)
        _taps_line(line, x, y, found, size, form, table, kernel_shape)


@serial
def _index_line(line, x, y, indices, size, form, table, order):
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w = form[:3]
    h, d, image = line % out_h, line // out_h % out_d, line // out_h // out_d
    top_d, taps_d, _, _ = span(0, d, form, table)
    top_h, taps_h, _, _ = span(1, h, form, table)
    for w in range(out_w):
        top_w, taps_w, _, _ = span(2, w, form, table)
        place = (line * out_w + w) * channels
        indices[place : place + channels] = -1
        for kd in range(taps_d):
            for kh in range(taps_h):
                for kw in range(taps_w):
                    at_d, at_h, at_w = top_d + kd * form[3], top_h + kh * form[4], top_w + kw * form[5]
                    at = (((image * in_d + at_d) * in_h + at_h) * in_w + at_w) * channels
                    inner = at_d * order[0] + at_h * order[1] + at_w * order[2]
                    for c in range(channels):
                        value = x[at + c]
                        if indices[place + c] < 0 and (value == y[place + c] or np.isnan(value)):
                            indices[place + c] = (image * channels + c) * (in_d * in_h * in_w) + inner


@kernel
def max_pool_indices(x, y, indices, size, form, table, order):
    """indices (n, out..., c), int64: where each maximum y first lies in x, counted in ONNX order (n, c, spatial...).

    order: strides of (d, h, w) within a channel (those of storage_order 0 or 1).
    """
    for index in prange(size[0] * form[0] * form[1]):
        line = np.int64(index)
        _index_line(line, x, y, indices, size, form, table, order)
