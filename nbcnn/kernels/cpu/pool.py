"""Pooling over windows of one to three spatial dimensions: maximum, average, p-norm, and their gradients.

Activations lie channels last, (n, d, h, w, channels), flat. A window is worked out for a register of channels at a
time. `size` is (n, d, h, w, channels) of the input; `form` is (out d, h, w, dilation d, h, w). `table` (int64) says for
each output position on the axes d, h and w in turn: the first pixel of its window that is inside the picture, how many
are inside, and how many an average counts.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu import pixels, simd, tile
from nbcnn.kernels.cpu.compare import choose_equal, maximum
from nbcnn.kernels.cpu.jit import apart, kernel, serial
from nbcnn.kernels.cpu.pixels import PIXELS
from nbcnn.kernels.opcodes import AVERAGE, MAXIMUM, NORM

__all__ = ["max_pool_indices", "pool", "pool_grad"]


@serial
def _span(axis, o, form, table):
    """A row of the table: first pixel inside the picture, pixels inside, pixels that count."""
    at = 3 * (o + (form[0] if axis > 0 else 0) + (form[1] if axis > 1 else 0))
    return table[at], table[at + 1], table[at + 2]


@apart
def _largest(x, best, at, left, taps, steps):
    """The maximum of `best` and every pixel of a window. taps: how many on each axis; steps: elements between them."""
    for d in range(taps[0]):
        for h in range(taps[1]):
            place = at + d * steps[0] + h * steps[1]
            for _ in range(taps[2]):
                best = maximum(best, simd.load_first(x, place, left))
                place += steps[2]
    return best


@apart
def _total(x, total, at, left, taps, steps):
    for d in range(taps[0]):
        for h in range(taps[1]):
            place = at + d * steps[0] + h * steps[1]
            for _ in range(taps[2]):
                total = simd.add(total, simd.load_first(x, place, left))
                place += steps[2]
    return total


@serial
def _norm(power, x, at, y, place, count, taps, steps):
    """y[place:] = (sum |x|^power)^(1/power) of a window, for `count` channels."""
    y[place : place + count] = 0
    for d in range(taps[0]):
        for h in range(taps[1]):
            for w in range(taps[2]):
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


@serial
def _middle(acc, mode, x, y, at, place, length, step, channels, count, taps, steps, part):
    """`length` neighbouring pixels, PIXELS or more, whose windows have as many taps and lie `step` elements apart: a
    tile of them at a time, the last of which may overlap the one before.

    A maximum that lets NaN through takes three times as long. So the values are added up on the way, and only where
    the sum is NaN, because of a NaN or of infinities, is the tile worked out again so.
    """
    lanes = simd.lanes(y)
    ins, outs = pixels.starts(acc, step), pixels.starts(acc, channels)
    lowest = pixels.fill(acc, simd.broadcast(y, y.dtype.type(-np.inf)))
    for first in range(0, length, len(acc)):
        pixel = min(first, length - len(acc))
        for c in range(0, count, lanes):
            left = count - c
            careful = False
            while True:
                total, best = acc, lowest
                for d in range(taps[0]):
                    for h in range(taps[1]):
                        source = at + pixel * step + c + d * steps[0] + h * steps[1]
                        for _ in range(taps[2]):
                            if left >= lanes:
                                found = pixels.load(x, ins, source)
                            else:
                                found = pixels.load_first(x, ins, source, len(acc), left)
                            total = pixels.add(total, found)
                            if mode == MAXIMUM:
                                best = pixels.maximum(best, found) if careful else pixels.larger(best, found)
                            source += steps[2]
                if mode == AVERAGE:
                    best = pixels.fma(acc, total, part)
                elif not careful and pixels.any_nan(total):
                    careful = True
                    continue
                break
            if left >= lanes:
                pixels.store(y, outs, place + pixel * channels + c, best)
            else:
                pixels.store_first(y, outs, place + pixel * channels + c, best, len(acc), left)


@serial
def _pool_line(task, mode, power, x, y, size, form, middle, table, block):
    """One line of the output, a block of channels."""
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w, step_d, step_h, step_w = form
    blocks = (channels + block - 1) // block
    first = task % blocks * block
    count = min(block, channels - first)
    line = task // blocks
    h, d, image = line % out_h, line // out_h % out_d, line // out_h // out_d
    top_d, taps_d, count_d = _span(0, d, form, table)
    top_h, taps_h, count_h = _span(1, h, form, table)
    steps = (step_d * in_h * in_w * channels, step_h * in_w * channels, step_w * channels)
    row = ((image * in_d + top_d) * in_h + top_h) * in_w
    lowest, nothing = simd.broadcast(y, y.dtype.type(-np.inf)), simd.broadcast(y, y.dtype.type(0))
    acc = tile.zeros(y, PIXELS, 1)
    inner = middle[1] - middle[0] if mode != NORM and middle[1] - middle[0] >= PIXELS else 0
    for number in range(out_w - inner + (inner > 0)):
        w = number if number <= middle[0] or inner == 0 else number + inner - 1
        top_w, taps_w, count_w = _span(2, w, form, table)
        place = (line * out_w + w) * channels + first
        at = (row + top_w) * channels + first
        taps = (taps_d, taps_h, taps_w)
        if inner > 0 and w == middle[0]:
            part = simd.broadcast(y, y.dtype.type(1 / max(count_d * count_h * count_w, 1)))
            _middle(acc, mode, x, y, at, place, inner, middle[2] * channels, channels, count, taps, steps, part)
            continue
        if mode == NORM:
            _norm(power, x, at, y, place, count, taps, steps)
        elif mode == MAXIMUM:
            for c in range(0, count, simd.lanes(y)):
                simd.store_first(y, place + c, _largest(x, lowest, at + c, count - c, taps, steps), count - c)
        else:
            part = simd.broadcast(y, y.dtype.type(1 / max(count_d * count_h * count_w, 1)))
            for c in range(0, count, simd.lanes(y)):
                total = _total(x, nothing, at + c, count - c, taps, steps)
                simd.store_first(y, place + c, simd.mul(total, part), count - c)


@kernel
def pool(mode, power, x, y, size, form, middle, table, block):
    """y (n, out..., c) = maximum, mean or p-norm of each window of x (n, d, h, w, c); padding takes no part.

    power: of the norm, a scalar of the element type. middle: first pixel of a line whose window has all its taps inside
    the picture, one past the last, and pixels of x from one to the next. block: channels in a task.
    """
    blocks = (size[4] + block - 1) // block
    for index in prange(size[0] * form[0] * form[1] * blocks):
        task = np.int64(index)
        _pool_line(task, mode, power, x, y, size, form, middle, table, block)


# --- gradients --------------------------------------------------------------------------------------------------------


@apart
def _spread_maximum(x, y, dy, dx, place, at, left, taps, steps, own):
    """The first pixel of the window that equals its maximum takes dy; only lines own[0]..own[1] of it are written."""
    rest, best = simd.load_first(dy, place, left), simd.load_first(y, place, left)
    nothing = simd.broadcast(dx, dx.dtype.type(0))
    for d in range(taps[0]):
        for h in range(taps[1]):
            pixel = at + d * steps[0] + h * steps[1]
            for _ in range(taps[2]):
                value = simd.load_first(x, pixel, left)
                if own[0] <= h < own[1]:
                    share = choose_equal(value, best, rest, nothing)
                    simd.store_first(dx, pixel, simd.add(simd.load_first(dx, pixel, left), share), left)
                rest = choose_equal(value, best, nothing, rest)
                pixel += steps[2]


@serial
def _spread_average(dy, dx, place, at, left, taps, steps, own, part):
    share = simd.mul(simd.load_first(dy, place, left), part)
    for d in range(taps[0]):
        for h in range(own[0], own[1]):
            pixel = at + d * steps[0] + h * steps[1]
            for _ in range(taps[2]):
                simd.store_first(dx, pixel, simd.add(simd.load_first(dx, pixel, left), share), left)
                pixel += steps[2]


@serial
def _spread_norm(power, x, y, dy, dx, place, at, count, taps, steps, own):
    """dx += dy * sign(x) * (|x| / y)^(power - 1), nothing where the whole window is zero."""
    for d in range(taps[0]):
        for h in range(own[0], own[1]):
            for w in range(taps[2]):
                pixel = at + d * steps[0] + h * steps[1] + w * steps[2]
                for c in range(count):
                    value, norm = x[pixel + c], y[place + c]
                    if value != 0 and norm != 0:
                        slope = dy[place + c] * (abs(value) / norm) ** (power - 1)
                        dx[pixel + c] += slope if value > 0 else -slope


@serial
def _spread_line(image, d, h, h_first, h_end, mode, power, x, y, dy, dx, size, form, table):
    """All windows of one line of the output; of their pixels, those in lines h_first..h_end are written."""
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w, step_d, step_h, step_w = form
    top_d, taps_d, count_d = _span(0, d, form, table)
    top_h, taps_h, count_h = _span(1, h, form, table)
    if top_h >= h_end or top_h + (taps_h - 1) * step_h < h_first:
        return
    # Taps own[0]..own[1] of the window's lines lie in h_first..h_end.
    own = (max(0, (h_first - top_h + step_h - 1) // step_h), min(taps_h, (h_end - top_h + step_h - 1) // step_h))
    steps = (step_d * in_h * in_w * channels, step_h * in_w * channels, step_w * channels)
    row = ((image * in_d + top_d) * in_h + top_h) * in_w
    for w in range(out_w):
        top_w, taps_w, count_w = _span(2, w, form, table)
        place = (((image * out_d + d) * out_h + h) * out_w + w) * channels
        at = (row + top_w) * channels
        taps = (taps_d, taps_h, taps_w)
        if mode == NORM:
            _spread_norm(power, x, y, dy, dx, place, at, channels, taps, steps, own)
        elif mode == MAXIMUM:
            for c in range(0, channels, simd.lanes(dx)):
                _spread_maximum(x, y, dy, dx, place + c, at + c, channels - c, taps, steps, own)
        else:
            part = simd.broadcast(dx, dx.dtype.type(1 / max(count_d * count_h * count_w, 1)))
            for c in range(0, channels, simd.lanes(dx)):
                _spread_average(dy, dx, place + c, at + c, channels - c, taps, steps, own, part)


@serial
def _grad_block(task, mode, power, x, y, dy, dx, size, form, table, lines):
    """The gradient of `lines` neighbouring lines of one picture, at every depth, from all windows that reach them."""
    _n, in_d, in_h, in_w, channels = size
    blocks = (in_h + lines - 1) // lines
    image, h_first = task // blocks, task % blocks * lines
    h_end = min(h_first + lines, in_h)
    for d in range(in_d):
        start = ((image * in_d + d) * in_h + h_first) * in_w * channels
        dx[start : start + (h_end - h_first) * in_w * channels] = 0
    for d in range(form[0]):
        for h in range(form[1]):
            _spread_line(image, d, h, h_first, h_end, mode, power, x, y, dy, dx, size, form, table)


@kernel
def pool_grad(mode, power, x, y, dy, dx, size, form, table, lines):
    """dx (n, d, h, w, c) from dy (n, out..., c); that of a maximum goes to the first pixel (row-major) that equals it.

    x, y: input and output of the forward pass (empty for an average). lines: lines of a picture in a task, which it
    alone writes; windows that reach lines of two tasks are visited by both. Each pixel sums its windows in row-major
    order, whatever the tasks.
    """
    blocks = (size[2] + lines - 1) // lines
    for index in prange(size[0] * blocks):
        task = np.int64(index)
        _grad_block(task, mode, power, x, y, dy, dx, size, form, table, lines)


# --- indices ----------------------------------------------------------------------------------------------------------


@serial
def _index_line(line, x, y, indices, size, form, table, order):
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w = form[:3]
    h, d, image = line % out_h, line // out_h % out_d, line // out_h // out_d
    top_d, taps_d, _ = _span(0, d, form, table)
    top_h, taps_h, _ = _span(1, h, form, table)
    for w in range(out_w):
        top_w, taps_w, _ = _span(2, w, form, table)
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
