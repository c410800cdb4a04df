"""The maximum and the mean of windows of bytes.

Pixels lie channels last; `size`, `form` and `table` are those of pool.py. A line of the output first takes together
the lines of x that its windows meet, byte by byte, between as much padding as they meet; then, at every place where a
window could begin, that and its neighbours. Both are loops over as many neighbours in memory as a line has, which the
compiler vectorizes, whatever the number of channels.

`along` is (taps, stride, padding before) on w; `lines` is scratch, for each thread room for both steps: see `room`.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.pool import span
from nbcnn.kernels.cpu.rounding import divide, nearest

__all__ = ["max_pool_bytes", "mean_pool_bytes"]


@serial
def _extents(size, form, along):
    """Elements of a line that windows meet, with padding; before the picture; of the picture; where windows begin."""
    channels = size[4]
    begins = (form[2] - 1) * along[1] + 1
    reach = begins + (along[0] - 1) * form[5]
    inside = max(0, min(size[3], reach - along[2]))
    return reach * channels, min(along[2], reach) * channels, inside * channels, begins * channels


@serial
def _fill(target, value):
    """Loops of our own: NumPy's assignments are not vectorized."""
    for i in range(target.size):
        target[i] = value


@serial
def _copy(target, source):
    for i in range(target.size):
        target[i] = source[i]


@serial
def _raise(best, found):
    for i in range(best.size):
        value = found[i]
        best[i] = value if value > best[i] else best[i]


@serial
def _add(total, found):
    for i in range(total.size):
        total[i] += found[i]


@serial
def _largest_line(line, x, y, own, lowest, size, form, table, along):
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w, step_d, step_h, step_w = form
    h, d, image = line % out_h, line // out_h % out_d, line // out_h // out_d
    top_d, taps_d, _, _ = span(0, d, form, table)
    top_h, taps_h, _, _ = span(1, h, form, table)
    reach, before, inside, begins = _extents(size, form, along)
    met = own[:reach]
    _fill(met, lowest)
    for kd in range(taps_d):
        for kh in range(taps_h):
            at = ((image * in_d + top_d + kd * step_d) * in_h + top_h + kh * step_h) * in_w * channels
            _raise(met[before : before + inside], x[at : at + inside])
    result = y[line * out_w * channels : (line + 1) * out_w * channels]
    best = result if along[1] == 1 else own[reach : reach + begins]
    _copy(best, met[:begins])
    for kw in range(1, along[0]):
        at = kw * step_w * channels
        _raise(best, met[at : at + begins])
    if along[1] > 1:
        for w in range(out_w):
            at = w * along[1] * channels
            _copy(result[w * channels : (w + 1) * channels], best[at : at + channels])


@kernel
def max_pool_bytes(x, y, lines, lowest, size, form, table, along):
    """y (n, out..., c) = the maximum of each window of x (n, d, h, w, c), 8-bit integers; `lowest`, where a window
    meets none.
    """
    reach, _, _, begins = _extents(size, form, along)
    for index in prange(size[0] * form[0] * form[1]):
        own = get_thread_id() * (reach + begins)
        _largest_line(np.int64(index), x, y, lines[own : own + reach + begins], lowest, size, form, table, along)


@serial
def _round(total, y, shift, by, low, high, zero):
    for c in range(y.size):
        v = np.float32(np.int32(np.int32(total[c]) - shift)) * by
        v = v if v > low else low
        v = high if v > high else v
        y[c] = nearest(v) + zero


@serial
def _mean_line(line, x, y, own, scales, size, form, table, along, zeros, low, high):
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w, step_d, step_h, step_w = form
    h, d, image = line % out_h, line // out_h % out_d, line // out_h // out_d
    top_d, taps_d, count_d, _ = span(0, d, form, table)
    top_h, taps_h, count_h, _ = span(1, h, form, table)
    reach, before, inside, begins = _extents(size, form, along)
    met, total = own[:reach], own[reach : reach + begins]
    _fill(met, 0)
    for kd in range(taps_d):
        for kh in range(taps_h):
            at = ((image * in_d + top_d + kd * step_d) * in_h + top_h + kh * step_h) * in_w * channels
            _add(met[before : before + inside], x[at : at + inside])
    _copy(total, met[:begins])
    for kw in range(1, along[0]):
        at = kw * step_w * channels
        _add(total, met[at : at + begins])
    for w in range(out_w):
        _, taps_w, count_w, _ = span(2, w, form, table)
        counted = max(count_d * count_h * count_w, 1)
        by = divide(scales[0], scales[1] * np.float32(counted))
        shift = np.int32(taps_d * taps_h * taps_w * zeros[0])
        at, place = w * along[1] * channels, (line * out_w + w) * channels
        _round(
            total[at : at + channels], y[place : place + channels], shift, by, low, high, np.int32(zeros[1]),
        )  # fmt: skip


@kernel
def mean_pool_bytes(x, y, lines, x_scale, y_scale, size, form, table, along, zeros, low, high):
    """y (n, out..., c) = the mean of each window of x (n, d, h, w, c), bytes, held between low and high, in steps of y.
    zeros: the zero points of x and y. lines: int32.
    """
    reach, _, _, begins = _extents(size, form, along)
    scales = (np.float32(x_scale[0]), np.float32(y_scale[0]))
    bounds = (np.float32(low), np.float32(high))
    for index in prange(size[0] * form[0] * form[1]):
        own = get_thread_id() * (reach + begins)
        _mean_line(
            np.int64(index), x, y, lines[own : own + reach + begins], scales, size, form, table, along, zeros,
            bounds[0], bounds[1],
        )  # fmt: skip
