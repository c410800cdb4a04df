"""The gradient of pooling: every pixel gathers from the windows that it is part of, and is written once.

See kernels/cpu/pool_grad.py for `meets` and `moves`. Each thread takes a pixel of the input, for four channels
(channels.py), and its windows in row-major order: few of them, one after the other, because more loads at a time would
cost the registers that more threads need.
"""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import cuda, device, kernel, spread
from nbcnn.kernels.cuda.channels import fours, in_fours, lanes_of, read_fours, write_fours
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.memory import get
from nbcnn.kernels.opcodes import AVERAGE, MAXIMUM

__all__ = ["pool_grad"]


@device
def _rows(pixel, size):
    """The image of a pixel of the input, and its three rows in `meets`."""
    line, volume = divide(pixel, size[3]), divide(pixel, size[3] * size[2])
    row_h, row_w = size[1] + remainder(line, size[2]), size[1] + size[2] + remainder(pixel, size[3])
    return divide(volume, size[1]), 3 * remainder(volume, size[1]), 3 * row_h, 3 * row_w


@device
def _meeting(meets, at):
    """A row of `meets`."""
    return get(meets, at), get(meets, at + 1), get(meets, at + 2)


@device
def _next(row, column, count_w):
    """From one window that has a pixel to the next."""
    last = column + 1 == count_w
    return row + 1 if last else row, 0 if last else column + 1


@kernel
def _of_maximum(dy, found, dx, count, lanes, size, form, kernel_shape, meets, moves):
    i = cuda.grid(1)
    while i < count:
        pixel, channels = divide(i, lanes), size[4]
        wide = in_fours(dy, channels) and in_fours(dx, channels) and in_fours(found, channels)
        p, q, r, s = fours(remainder(i, lanes), lanes, channels, wide)
        image, at_d, at_h, at_w = _rows(pixel, size)
        first_d, count_d, tap_d = _meeting(meets, at_d)
        first_h, count_h, tap_h = _meeting(meets, at_h)
        first_w, count_w, tap_w = _meeting(meets, at_w)
        zero = dx.dtype.type(0)
        a = b = c = d = zero
        for j in range(count_d):
            row, k, m = ((image * form[0] + first_d + j * moves[0]) * form[1] + first_h) * form[2], 0, 0
            top = (tap_d - j * moves[1]) * kernel_shape[1] + tap_h
            while k < count_h and m < count_w:
                at = (row + first_w + k * moves[2] * form[2] + m * moves[4]) * channels
                number = (top - k * moves[3]) * kernel_shape[2] + tap_w - m * moves[5]
                # All are read, chosen or not, so that no load waits for a tap.
                u, v, w, z = read_fours(dy, at, p, q, r, s, wide)
                e, f, g, h = read_fours(found, at, p, q, r, s, wide)
                a += u if e == number else zero
                b += v if f == number else zero
                c += w if g == number else zero
                d += z if h == number else zero
                k, m = _next(k, m, count_w)
        write_fours(dx, pixel * channels, p, q, r, s, a, b, c, d, wide)
        i += cuda.gridsize(1)


@kernel
def _of_mean(dy, dx, count, lanes, size, form, meets, moves, shares):
    i = cuda.grid(1)
    while i < count:
        pixel, channels = divide(i, lanes), size[4]
        wide = in_fours(dy, channels) and in_fours(dx, channels)
        p, q, r, s = fours(remainder(i, lanes), lanes, channels, wide)
        image, at_d, at_h, at_w = _rows(pixel, size)
        first_d, count_d, _ = _meeting(meets, at_d)
        first_h, count_h, _ = _meeting(meets, at_h)
        first_w, count_w, _ = _meeting(meets, at_w)
        a = b = c = d = dx.dtype.type(0)
        for j in range(count_d):
            o_d, k, m = first_d + j * moves[0], 0, 0
            while k < count_h and m < count_w:
                o_h, o_w = first_h + k * moves[2], first_w + m * moves[4]
                part = get(shares, o_d) * get(shares, form[0] + o_h) * get(shares, form[0] + form[1] + o_w)
                at = (((image * form[0] + o_d) * form[1] + o_h) * form[2] + o_w) * channels
                u, v, w, z = read_fours(dy, at, p, q, r, s, wide)
                a, b, c, d = a + part * u, b + part * v, c + part * w, d + part * z
                k, m = _next(k, m, count_w)
        write_fours(dx, pixel * channels, p, q, r, s, a, b, c, d, wide)
        i += cuda.gridsize(1)


@kernel
def _of_norm(power, x, y, dy, dx, count, size, form, meets, moves):
    i = cuda.grid(1)
    while i < count:
        channels = size[4]
        image, at_d, at_h, at_w = _rows(divide(i, channels), size)
        first_d, count_d, _ = _meeting(meets, at_d)
        first_h, count_h, _ = _meeting(meets, at_h)
        first_w, count_w, _ = _meeting(meets, at_w)
        value, total = get(x, i), dx.dtype.type(0)
        for j in range(count_d):
            for k in range(count_h):
                row = ((image * form[0] + first_d + j * moves[0]) * form[1] + first_h + k * moves[2]) * form[2]
                for m in range(count_w):
                    at = (row + first_w + m * moves[4]) * channels + remainder(i, channels)
                    norm = get(y, at)
                    if value != 0 and norm != 0:
                        slope = get(dy, at) * (abs(value) / norm) ** (power - 1)
                        total += slope if value > 0 else -slope
        dx[i] = total
        i += cuda.gridsize(1)


def pool_grad(mode, power, x, y, dy, found, dx, size, form, kernel_shape, meets, moves, shares):
    """dx (n, d, h, w, c) from dy (n, out..., c).

    x, y: input and output of the forward pass, for a norm. found (n, out..., c): of max_pool_taps, for a maximum. Both
    else empty. shares: for an average, one over how many pixels count, on each axis for each output position; the part
    of a pixel in a mean is their product. Each pixel sums its windows in row-major order.
    """
    lanes, pixels = lanes_of(size[4]), size[0] * size[1] * size[2] * size[3]
    count, elements = pixels * lanes, pixels * size[4]
    if mode == MAXIMUM:
        spread(_of_maximum, count, dy, found, dx, count, lanes, size, form, kernel_shape, meets, moves)
    elif mode == AVERAGE:
        spread(_of_mean, count, dy, dx, count, lanes, size, form, meets, moves, shares)
    else:
        spread(_of_norm, elements, power, x, y, dy, dx, elements, size, form, meets, moves)
