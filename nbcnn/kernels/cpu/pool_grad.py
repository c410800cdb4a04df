"""The gradient of pooling: every pixel gathers from the windows that it is part of, and is written once.

Activations lie channels last, as in pool.py, with its `size` and `form`. `meets` (int64) says for each input position
on the axes d, h and w in turn: the first output position whose window has it, how many have, and the number of the tap
that meets it in the first. From one such window to the next are `moves` (positions, taps) along d, h, w.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu import pixels, simd, taps, tile
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.pool import VECS
from nbcnn.kernels.opcodes import MAXIMUM, NORM

__all__ = ["pool_grad"]


@serial
def _meet(axis, place, size, meets):
    """A row of `meets`."""
    at = 3 * (place + (size[1] if axis > 0 else 0) + (size[2] if axis > 1 else 0))
    return simd.get(meets, at), simd.get(meets, at + 1), simd.get(meets, at + 2)


@serial
def _gather(total, whole, mode, dy, found, shares, at, left, first, counts, tap, steps, moves):
    """A tile of channels of one pixel: from the windows `first` on, `counts` of them along d, h, w. steps: elements of
    dy, and numbers of taps, from one to the next.
    """
    nothing = total
    for i in range(counts[0]):
        for j in range(counts[1]):
            place = at + i * steps[0] + j * steps[1]
            number = tap - i * steps[3] - j * steps[4]
            for k in range(counts[2]):
                row = tile.row(nothing, dy, place) if whole else tile.row_first(nothing, dy, place, left)
                if mode == MAXIMUM:
                    if whole:
                        total = taps.add_chosen(found, place, total, row, number)
                    else:
                        total = taps.add_chosen_first(found, place, total, row, number, left)
                else:
                    share = simd.get(shares, first[0] + i * moves[0]) * simd.get(shares, first[1] + j * moves[2])
                    share *= simd.get(shares, first[2] + k * moves[4])
                    total = pixels.fma(total, row, simd.broadcast(dy, share))
                place += steps[2]
                number -= steps[5]
    return total


@serial
def _grad_line(line, mode, dy, found, dx, size, form, kernel_shape, meets, moves, shares):
    """One line of one picture, of a maximum or an average."""
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w = form[:3]
    h, d, image = line % in_h, line // in_h % in_d, line // in_h // in_d
    first_d, count_d, tap_d = _meet(0, d, size, meets)
    first_h, count_h, tap_h = _meet(1, h, size, meets)
    nothing = tile.zeros(dx, 1, VECS)
    width = VECS * simd.lanes(dx)
    plane, row = kernel_shape[1] * kernel_shape[2], kernel_shape[2]
    steps = (
        moves[0] * out_h * out_w * channels,
        moves[2] * out_w * channels,
        moves[4] * channels,
        moves[1] * plane,
        moves[3] * row,
        moves[5],
    )
    above = ((image * out_d + first_d) * out_h + first_h) * out_w
    for w in range(in_w):
        first_w, count_w, tap_w = _meet(2, w, size, meets)
        pixel, at = (line * in_w + w) * channels, (above + first_w) * channels
        first = (first_d, out_d + first_h, out_d + out_h + first_w)
        counts, tap = (count_d, count_h, count_w), tap_d * plane + tap_h * row + tap_w
        for c in range(0, channels, width):
            left = channels - c
            if left >= width:
                total = _gather(nothing, True, mode, dy, found, shares, at + c, left, first, counts, tap, steps, moves)
                tile.spill(total, dx, pixel + c)
            else:
                total = _gather(nothing, False, mode, dy, found, shares, at + c, left, first, counts, tap, steps, moves)
                tile.spill_first(total, dx, pixel + c, left)


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
    for index in prange(size[0] * size[1] * size[2]):
        line = np.int64(index)
        if mode == NORM:
            _norm_line(line, power, x, y, dy, dx, size, form, meets, moves)
        else:
            _grad_line(line, mode, dy, found, dx, size, form, kernel_shape, meets, moves, shares)
