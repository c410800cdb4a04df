"""Pooling over windows of one to three spatial dimensions: maximum, average, p-norm, and their gradients.

Activations lie channels last, (n, d, h, w, channels), flat; the inner loops run over channels. Spatial triples are (d, h, w).
`size` is (n, d, h, w, channels) of the input; `form` is out, kernel, strides, dilations, begins, five triples in one tuple.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = ["AVERAGE", "MAXIMUM", "NORM", "max_pool_indices", "pool", "pool_grad"]

MAXIMUM, AVERAGE, NORM = 0, 1, 2


@serial
def _first_tap(start, dilation):  # type: ignore[no-untyped-def]
    """The first kernel position that is not before the picture."""
    return 0 if start >= 0 else (dilation - 1 - start) // dilation


@serial
def _last_tap(start, extent, taps, dilation):  # type: ignore[no-untyped-def]
    """One past the last kernel position that is not beyond the picture."""
    return 0 if start >= extent else min(taps, (extent - start + dilation - 1) // dilation)


@serial
def _taps(axis, o, size, form):  # type: ignore[no-untyped-def]
    """Of output position o: where its window starts, and the range of kernel positions inside the picture."""
    start, dilation = o * form[6 + axis] - form[12 + axis], form[9 + axis]
    return start, _first_tap(start, dilation), _last_tap(start, size[axis + 1], form[3 + axis], dilation)


@serial
def _counted(axis, o, size, form, ends):  # type: ignore[no-untyped-def]
    """How many kernel positions of output position o an average counts on this axis: inside the padding `ends` too, or not (-1)."""
    start, first, last = _taps(axis, o, size, form)
    if ends[axis] < 0:
        return last - first
    return _last_tap(start, size[axis + 1] + ends[axis], form[3 + axis], form[9 + axis])


@serial
def _divisor(d, h, w, size, form, ends):  # type: ignore[no-untyped-def]
    count = _counted(0, d, size, form, ends) * _counted(1, h, size, form, ends) * _counted(2, w, size, form, ends)
    return max(count, 1)


@serial
def _gather_tap(mode, power, x, at, y, place, count):  # type: ignore[no-untyped-def]
    """Let the pixel at x[at] take part in the window whose result grows at y[place]."""
    if mode == MAXIMUM:
        for c in range(count):
            value = x[at + c]
            if value > y[place + c] or value != value:  # a NaN wins, and stays
                y[place + c] = value
    elif mode == AVERAGE:
        for c in range(count):
            y[place + c] += x[at + c]
    elif power == 2:
        for c in range(count):
            y[place + c] += x[at + c] * x[at + c]
    else:
        for c in range(count):
            y[place + c] += abs(x[at + c]) ** power


@serial
def _finish(mode, power, y, place, count, divisor):  # type: ignore[no-untyped-def]
    if mode == AVERAGE:
        for c in range(count):
            y[place + c] /= divisor
    elif mode == NORM and power == 2:
        for c in range(count):
            y[place + c] = np.sqrt(y[place + c])
    elif mode == NORM:
        for c in range(count):
            y[place + c] = y[place + c] ** (1 / power)


@serial
def _pool_line(task, mode, power, x, y, size, form, ends, block):  # type: ignore[no-untyped-def]
    """One line of the output, a block of channels."""
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w = form[:3]
    blocks = (channels + block - 1) // block
    first = task % blocks * block
    count = min(block, channels - first)
    line = task // blocks
    h, d, image = line % out_h, line // out_h % out_d, line // out_h // out_d
    start_d, d0, d1 = _taps(0, d, size, form)
    start_h, h0, h1 = _taps(1, h, size, form)
    step_d, step_h, step_w = form[9:12]
    for w in range(out_w):
        start_w, w0, w1 = _taps(2, w, size, form)
        place = (line * out_w + w) * channels + first
        y[place : place + count] = -np.inf if mode == MAXIMUM else 0.0
        for kd in range(d0, d1):
            for kh in range(h0, h1):
                row = ((image * in_d + start_d + kd * step_d) * in_h + start_h + kh * step_h) * in_w + start_w
                for kw in range(w0, w1):
                    _gather_tap(mode, power, x, (row + kw * step_w) * channels + first, y, place, count)
        _finish(mode, power, y, place, count, y.dtype.type(_divisor(d, h, w, size, form, ends)))


@kernel
def pool(mode, power, x, y, size, form, ends, block):  # type: ignore[no-untyped-def]
    """y (n, out..., c) = maximum, mean or p-norm of each window of x (n, d, h, w, c); padding takes no part.

    power: of the norm, a scalar of the element type. ends: for an average that counts padding, how far that reaches beyond the
    picture on each axis, else (-1, -1, -1). block: channels in a task.
    """
    blocks = (size[4] + block - 1) // block
    for task in prange(size[0] * form[0] * form[1] * blocks):
        _pool_line(task, mode, power, x, y, size, form, ends, block)


# --- gradients ----------------------------------------------------------------------------------------------------------


@serial
def _share(mode, power, y, dy, place, rest, slot, count, divisor):  # type: ignore[no-untyped-def]
    """rest[slot:] = what a window has to hand to its pixels: dy, dy / pixels, or dy * y^(1 - p)."""
    if mode == MAXIMUM:
        for c in range(count):
            rest[slot + c] = dy[place + c]
    elif mode == AVERAGE:
        for c in range(count):
            rest[slot + c] = dy[place + c] / divisor
    else:
        for c in range(count):
            rest[slot + c] = dy[place + c] * y[place + c] ** (1 - power) if y[place + c] != 0 else 0.0


@serial
def _spread_tap(mode, power, inside, x, at, y, place, dx, rest, slot, count):  # type: ignore[no-untyped-def]
    """Hand a pixel its share. The first maximum takes all; `inside` says whether the pixel is this task's to write."""
    if mode == MAXIMUM:
        for c in range(count):
            hit = x[at + c] == y[place + c] or x[at + c] != x[at + c]
            if inside:
                dx[at + c] += rest[slot + c] if hit else 0.0
            rest[slot + c] = 0.0 if hit else rest[slot + c]
    elif not inside:
        return
    elif mode == AVERAGE:
        for c in range(count):
            dx[at + c] += rest[slot + c]
    else:
        for c in range(count):
            value = x[at + c]
            slope = abs(value) ** (power - 1) if value != 0 else 0.0
            dx[at + c] += rest[slot + c] * (slope if value > 0 else -slope)


@serial
def _spread_window(image, d, h, w, h_first, h_end, mode, power, x, y, dy, dx, rest, slot, size, form, ends):  # type: ignore[no-untyped-def]
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w = form[:3]
    step_d, step_h, step_w = form[9:12]
    start_d, d0, d1 = _taps(0, d, size, form)
    start_h, h0, h1 = _taps(1, h, size, form)
    start_w, w0, w1 = _taps(2, w, size, form)
    place = (((image * out_d + d) * out_h + h) * out_w + w) * channels
    divisor = dx.dtype.type(_divisor(d, h, w, size, form, ends))
    _share(mode, power, y, dy, place, rest, slot, channels, divisor)
    for kd in range(d0, d1):
        for kh in range(h0, h1):
            in_line = start_h + kh * step_h
            inside = h_first <= in_line < h_end
            row = ((image * in_d + start_d + kd * step_d) * in_h + in_line) * in_w + start_w
            for kw in range(w0, w1):
                at = (row + kw * step_w) * channels
                _spread_tap(mode, power, inside, x, at, y, place, dx, rest, slot, channels)


@serial
def _grad_block(task, mode, power, x, y, dy, dx, rest, slot, size, form, ends, lines):  # type: ignore[no-untyped-def]
    """The gradient of `lines` neighbouring lines of one picture, at every depth: all windows that reach them are visited in order."""
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w = form[:3]
    blocks = (in_h + lines - 1) // lines
    image, h_first = task // blocks, task % blocks * lines
    h_end = min(h_first + lines, in_h)
    for d in range(in_d):
        start = ((image * in_d + d) * in_h + h_first) * in_w * channels
        dx[start : start + (h_end - h_first) * in_w * channels] = 0
    stride, begin = form[7], form[13]
    reach = (form[4] - 1) * form[10]
    o_first = max(0, (h_first + begin - reach + stride - 1) // stride)
    o_end = min(out_h, (h_end - 1 + begin) // stride + 1)
    for d in range(out_d):
        for h in range(o_first, o_end):
            for w in range(out_w):
                _spread_window(
                    image, d, h, w, h_first, h_end, mode, power, x, y, dy, dx, rest, slot, size, form, ends
                )


@kernel
def pool_grad(mode, power, x, y, dy, dx, rest, size, form, ends, lines):  # type: ignore[no-untyped-def]
    """dx (n, d, h, w, c) from dy (n, out..., c); the gradient of a maximum goes to the first (row-major) that equals it.

    x, y: input and output of the forward pass (empty for an average). rest: scratch, a row of channels for each thread.
    lines: lines of a picture in a task. Each pixel sums its windows in row-major order, whatever the threads and tasks.
    """
    blocks = (size[2] + lines - 1) // lines
    for task in prange(size[0] * blocks):
        slot = get_thread_id() * size[4]
        _grad_block(task, mode, power, x, y, dy, dx, rest, slot, size, form, ends, lines)


# --- indices ------------------------------------------------------------------------------------------------------------


@serial
def _index_line(line, x, y, indices, size, form, order):  # type: ignore[no-untyped-def]
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w = form[:3]
    h, d, image = line % out_h, line // out_h % out_d, line // out_h // out_d
    start_d, d0, d1 = _taps(0, d, size, form)
    start_h, h0, h1 = _taps(1, h, size, form)
    for w in range(out_w):
        start_w, w0, w1 = _taps(2, w, size, form)
        place = (line * out_w + w) * channels
        indices[place : place + channels] = -1
        for kd in range(d0, d1):
            for kh in range(h0, h1):
                for kw in range(w0, w1):
                    at_d, at_h, at_w = start_d + kd * form[9], start_h + kh * form[10], start_w + kw * form[11]
                    at = (((image * in_d + at_d) * in_h + at_h) * in_w + at_w) * channels
                    inner = at_d * order[0] + at_h * order[1] + at_w * order[2]
                    for c in range(channels):
                        value = x[at + c]
                        if indices[place + c] < 0 and (value == y[place + c] or value != value):
                            indices[place + c] = (image * channels + c) * (in_d * in_h * in_w) + inner


@kernel
def max_pool_indices(x, y, indices, size, form, order):  # type: ignore[no-untyped-def]
    """indices (n, out..., c), int64: where each maximum y first lies in x, counted in ONNX order (n, c, spatial...).

    order: strides of (d, h, w) within a channel (those of storage_order 0 or 1).
    """
    for line in prange(size[0] * form[0] * form[1]):
        _index_line(line, x, y, indices, size, form, order)
