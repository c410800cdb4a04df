"""The gradient of pooling: every pixel gathers from the windows that it is part of, and is written once.

Activations lie channels last, as in pool.py, with its `size` and `form`. `meets` (int64) says for each input position
on the axes d, h and w in turn: the first output position whose window has it, how many have, and the number of the tap
that meets it in the first. From one such window to the next are `moves` (positions, taps) along d, h, w.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu import pixels, simd, stream, taps, tile
from nbcnn.kernels.cpu.jit import apart, kernel, serial
from nbcnn.kernels.cpu.pool import VECS
from nbcnn.kernels.opcodes import MAXIMUM, NORM

__all__ = ["pool_grad"]


@serial
def _meet(axis, place, size, meets):
    """A row of `meets`."""
    at = 3 * (place + (size[1] if axis > 0 else 0) + (size[2] if axis > 1 else 0))
    return simd.get(meets, at), simd.get(meets, at + 1), simd.get(meets, at + 2)


@apart
def _chosen_line(
    dy, found, dx, start, base, in_w, channels, more, rows, pitch, number, fewer, meets, at_w, move, skip, past
):
    """dx[start:], a line, = dy of the windows where the tap that holds their maximum is the one that meets the pixel.

    more: added to what is there. base: the first of `rows` rows of windows, which lie `pitch` elements apart; number:
    of the tap that meets it, were it the first of its line; `fewer` from a row to the next. move, skip: elements, and
    taps, from a window of a row to the next. past: whether to store past the caches.
    """
    width = VECS * simd.lanes(dx)
    nothing = tile.zeros(dx, 1, VECS)
    for w in range(in_w):
        at = at_w + 3 * w
        first, columns, tap = simd.get(meets, at), simd.get(meets, at + 1), simd.get(meets, at + 2)
        for c in range(0, channels, width):
            left, pixel = channels - c, start + w * channels + c
            whole = left >= width
            total = nothing
            if more:
                total = tile.row(nothing, dx, pixel) if whole else tile.row_first(nothing, dx, pixel, left)
            place, tap_here, column = base + first * channels + c, number + tap, 0
            for _ in range(rows * columns):
                if whole:
                    row = tile.row(nothing, dy, place)
                    total = taps.add_chosen(found, place, total, row, tap_here)
                else:
                    row = tile.row_first(nothing, dy, place, left)
                    total = taps.add_chosen_first(found, place, total, row, tap_here, left)
                column += 1
                place += move
                tap_here -= skip
                if column == columns:
                    column = 0
                    place += pitch - columns * move
                    tap_here -= fewer - columns * skip
            if whole and past:
                stream.spill(total, dx, pixel)
            elif whole:
                tile.spill(total, dx, pixel)
            else:
                tile.spill_first(total, dx, pixel, left)


@apart
def _means_line(
    dy, dx, start, base, in_w, channels, more, rows, pitch, share, shares, at_h, step_h, at_o, meets, at_w, move,
    step_w, past,
):  # fmt: skip
    """As _chosen_line, for an average: a share of every window, the product of `share` and two of `shares`, from at_h
    on for rows and from at_o on for columns.
    """
    width = VECS * simd.lanes(dx)
    nothing = tile.zeros(dx, 1, VECS)
    for w in range(in_w):
        at = at_w + 3 * w
        first, columns = simd.get(meets, at), simd.get(meets, at + 1)
        for c in range(0, channels, width):
            left, pixel = channels - c, start + w * channels + c
            whole = left >= width
            total = nothing
            if more:
                total = tile.row(nothing, dx, pixel) if whole else tile.row_first(nothing, dx, pixel, left)
            place, column, row_at = base + first * channels + c, 0, at_h
            for _ in range(rows * columns):
                part = share * simd.get(shares, row_at) * simd.get(shares, at_o + first + column * step_w)
                row = tile.row(nothing, dy, place) if whole else tile.row_first(nothing, dy, place, left)
                total = pixels.fma(total, row, simd.broadcast(dy, part))
                column += 1
                place += move
                if column == columns:
                    column = 0
                    place += pitch - columns * move
                    row_at += step_h
            if whole and past:
                stream.spill(total, dx, pixel)
            elif whole:
                tile.spill(total, dx, pixel)
            else:
                tile.spill_first(total, dx, pixel, left)


@serial
def _grad_line(line, mode, dy, found, dx, size, form, kernel_shape, meets, moves, shares, past):
    """One line of one picture, of a maximum or an average."""
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w = form[:3]
    h, d, image = line % in_h, line // in_h % in_d, line // in_h // in_d
    first_d, count_d, tap_d = _meet(0, d, size, meets)
    first_h, rows, tap_h = _meet(1, h, size, meets)
    rows = rows if count_d > 0 else 0
    start, at_w = line * in_w * channels, 3 * (in_d + in_h)
    pitch, move = moves[2] * out_w * channels, moves[4] * channels
    for i in range(max(count_d, 1)):
        o_d = first_d + i * moves[0]
        base = ((image * out_d + o_d) * out_h + first_h) * out_w * channels
        if mode == MAXIMUM:
            number = ((tap_d - i * moves[1]) * kernel_shape[1] + tap_h) * kernel_shape[2]
            _chosen_line(
                dy, found, dx, start, base, in_w, channels, i > 0, rows, pitch, number, moves[3] * kernel_shape[2],
                meets, at_w, move, moves[5], past,
            )  # fmt: skip
        else:
            share = simd.get(shares, o_d) if rows > 0 else shares.dtype.type(0)
            _means_line(
                dy, dx, start, base, in_w, channels, i > 0, rows, pitch, share, shares, out_d + first_h, moves[2],
                out_d + out_h, meets, at_w, move, moves[4], past,
            )  # fmt: skip


@serial
def _norm_line(line, power, x, y, dy, dx, size, form, meets, moves):
    """One line of one picture, of a norm: dx = the sum of dy * sign(x) * (|x| / y)^(power - 1), without windows that
    are all zero.
    """
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w = form[:3]
    h, d, image = line % in_h, line // in_h % in_d, line // in_h // in_d
    first_d, count_d, _ = _meet(0, d, size, meets)
    first_h, count_h, _ = _meet(1, h, size, meets)
    for w in range(in_w):
        first_w, count_w, _ = _meet(2, w, size, meets)
        pixel = (line * in_w + w) * channels
        dx[pixel : pixel + channels] = 0
        for i in range(count_d):
            for j in range(count_h):
                row = ((image * out_d + first_d + i * moves[0]) * out_h + first_h + j * moves[2]) * out_w
                for k in range(count_w):
                    at = (row + first_w + k * moves[4]) * channels
                    for c in range(channels):
                        value, norm = x[pixel + c], y[at + c]
                        if value != 0 and norm != 0:
                            slope = dy[at + c] * (abs(value) / norm) ** (power - 1)
                            dx[pixel + c] += slope if value > 0 else -slope


@kernel
def pool_grad(mode, power, x, y, dy, found, dx, size, form, kernel_shape, meets, moves, shares):
    """dx (n, d, h, w, c) from dy (n, out..., c).

    x, y: input and output of the forward pass, for a norm. found (n, out..., c): of max_pool_taps, for a maximum. Both
    else empty. shares: for an average, one over how many pixels count, on each axis for each output position; the part
    of a pixel in a mean is their product. Each pixel sums its windows in row-major order.
    """
    past = size[1] == 1 and stream.pays(dx, size[4])  # lines of a volume are added to, once written
    for index in prange(size[0] * size[1] * size[2]):
        line = np.int64(index)
        if mode == NORM:
            _norm_line(line, power, x, y, dy, dx, size, form, meets, moves)
        else:
            _grad_line(line, mode, dy, found, dx, size, form, kernel_shape, meets, moves, shares, past)
