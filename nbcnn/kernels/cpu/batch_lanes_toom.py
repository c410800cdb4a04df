"""batch_lanes.py's convolution with fewer multiplications: a line of the kernel at a time by Toom and Cook's algorithm.

For `r` taps in a line, 8 - r + 1 neighbouring outputs come from 8 pixels by 8 multiplications: pixels and weights are
taken for polynomials, evaluated at 0, 1, -1, 2, -2, 1/2, -1/2 and infinity, multiplied there, and interpolated (the one
dimensional F(m, r) of Winograd, "Arithmetic complexity of computations", 1980; the matrices are those of Lavin and
Gray's F(6, 3), arXiv:1509.09308). All lines and channels are added up between the evaluation and the interpolation.
Lanes are pictures, so all of it is plain arithmetic of registers.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import lane_tile, simd, tile
from nbcnn.kernels.cpu.compare import maximum
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.lane_tiling import FEW_ROWS, MORE_ROWS, PICTURE_VECS

__all__ = ["batch_toom_conv", "batch_toom_weights"]

POINTS = 8


@kernel
def batch_toom_weights(w, out, matrix, dims):
    """out (panel, point, line, c, lane) = sum over taps of matrix (point, tap) times w (panel, line, tap, c, lane).

    dims: (panels, lines, taps, elements of c and lane).
    """
    panels, lines, taps, run = dims
    for index in prange(panels * POINTS):
        task = np.int64(index)
        panel, point = task // POINTS, task % POINTS
        for line in range(lines):
            place = (task * lines + line) * run
            source = (panel * lines + line) * taps * run
            for i in range(run):
                total = matrix[point * taps] * w[source + i]
                for tap in range(1, taps):
                    total += matrix[point * taps + tap] * w[source + tap * run + i]
                out[place + i] = total


@serial
def _pixel(x, at, w, width, step):
    """A register of pictures, or zeros beside the line."""
    return simd.load(x, at + w * step) if 0 <= w < width else simd.zeros(x)


@serial
def _evaluate(x, v, slot, block, source, begin, outputs, tiles):
    """v (tile, point, line, channel, picture): all lines of a block of pictures at all points.

    Points lie a register further apart than they need, or all of them might share one place of the L1 cache.
    """
    in_h, in_w, channels = source
    lanes = simd.lanes(x)
    pictures = PICTURE_VECS * lanes
    kind = x.dtype.type
    line_run = channels * pictures
    far, mid, near = simd.broadcast(x, kind(5.25)), simd.broadcast(x, kind(-4.25)), simd.broadcast(x, kind(-2.5))
    two, four, five = simd.broadcast(x, kind(2)), simd.broadcast(x, kind(4)), simd.broadcast(x, kind(-5))
    half, quarter, fifth = simd.broadcast(x, kind(0.5)), simd.broadcast(x, kind(0.25)), simd.broadcast(x, kind(-1.25))
    for h in range(in_h):
        for t in range(tiles):
            w = t * outputs - begin
            for i in range(0, line_run, lanes):
                at = (block * in_h + h) * in_w * line_run + i
                x0, x1 = _pixel(x, at, w, in_w, line_run), _pixel(x, at, w + 1, in_w, line_run)
                x2, x3 = _pixel(x, at, w + 2, in_w, line_run), _pixel(x, at, w + 3, in_w, line_run)
                x4, x5 = _pixel(x, at, w + 4, in_w, line_run), _pixel(x, at, w + 5, in_w, line_run)
                x6, x7 = _pixel(x, at, w + 6, in_w, line_run), _pixel(x, at, w + 7, in_w, line_run)
                step = in_h * line_run + lanes
                place = slot + t * POINTS * step + h * line_run + i
                simd.store(v, place, simd.fma(far, simd.sub(x4, x2), simd.sub(x0, x6)))
                even, odd = simd.fma(mid, x4, simd.add(x2, x6)), simd.fma(mid, x3, simd.add(x1, x5))
                simd.store(v, place + step, simd.add(even, odd))
                simd.store(v, place + 2 * step, simd.sub(even, odd))
                even = simd.fma(quarter, x2, simd.fma(fifth, x4, x6))
                odd = simd.fma(half, x1, simd.fma(near, x3, simd.mul(two, x5)))
                simd.store(v, place + 3 * step, simd.add(even, odd))
                simd.store(v, place + 4 * step, simd.sub(even, odd))
                even = simd.fma(four, x2, simd.fma(five, x4, x6))
                odd = simd.fma(two, x1, simd.fma(near, x3, simd.mul(half, x5)))
                simd.store(v, place + 5 * step, simd.add(even, odd))
                simd.store(v, place + 6 * step, simd.sub(even, odd))
                simd.store(v, place + 7 * step, simd.fma(far, simd.sub(x3, x5), simd.sub(x7, x1)))


@serial
def _interpolate(products, at, size, place, count, outputs, more):
    """`count` of the `outputs` neighbours in a line, from the products at all points that lie from `at` on, to `place`;
    for `more` lines of a pooling window, the larger of them and what is there.
    """
    lanes = simd.lanes(products)
    kind = products.dtype.type
    for i in range(0, size, lanes):
        m0, m7 = simd.load(products, at + i), simd.load(products, at + 7 * size + i)
        m1, m2 = simd.load(products, at + size + i), simd.load(products, at + 2 * size + i)
        m3, m4 = simd.load(products, at + 3 * size + i), simd.load(products, at + 4 * size + i)
        m5, m6 = simd.load(products, at + 5 * size + i), simd.load(products, at + 6 * size + i)
        even1, even2, even3 = simd.add(m1, m2), simd.add(m3, m4), simd.add(m5, m6)
        odd1, odd2, odd3 = simd.sub(m1, m2), simd.sub(m3, m4), simd.sub(m5, m6)
        two, half = kind(1), kind(1)
        for j in range(count):
            if j % 2 == 0:
                value = simd.fma(simd.broadcast(products, two), even2, even1)
                value = simd.fma(simd.broadcast(products, half), even3, value)
            else:
                value = simd.fma(simd.broadcast(products, two), odd2, odd1)
                value = simd.fma(simd.broadcast(products, half), odd3, value)
            if j == 0:
                value = simd.add(value, m0)
            if j == outputs - 1:
                value = simd.add(value, m7)
            if more:
                value = maximum(simd.load(products, place + j * size + i), value)
            simd.store(products, place + j * size + i, value)
            two *= kind(2)
            half *= kind(0.5)


@serial
def _tile_line(
    nothing, row, block, line, v, slot, u, bias, y, products, at, spans, source, conv, target, kernel_shape, pool,
    outputs, tiles, low, high,
):  # fmt: skip
    """One line of the output of one block, from what is evaluated."""
    in_h, _in_w, channels = source
    _conv_h, conv_w = conv
    out_h, out_w, out_channels = target
    kernel_h, width = kernel_shape
    lanes = simd.lanes(y)
    pictures = PICTURE_VECS * lanes
    rows = len(nothing) // len(row)
    size = rows * pictures
    spot = at + POINTS * size
    across = (width + rows - 1) // rows
    for item in range((out_channels + width - 1) // width * across):
        panel = item // across * width
        here = min(width, out_channels - panel)
        if item % across * rows >= here:
            continue
        # The last tile of a panel overlaps its neighbour where it would not be full.
        first = max(min(item % across * rows, here - rows), 0)
        for i in range(pool[0]):
            span = 3 * (line * pool[0] + i)
            x_h, k_h, n_h = spans[span], spans[span + 1], spans[span + 2]
            for t in range(tiles):
                for point in range(POINTS):
                    v_at = slot + (t * POINTS + point) * (in_h * channels * pictures + lanes)
                    v_at += x_h * channels * pictures
                    u_at = ((panel // width * POINTS + point) * kernel_h + k_h) * channels * width + first
                    acc = nothing
                    for k in range(n_h * channels):
                        acc = lane_tile.fma_each(acc, u, u_at + k * width, tile.row(row, v, v_at + k * pictures))
                    tile.spill(acc, products, at + point * size)
                count = min(outputs, conv_w - t * outputs)
                _interpolate(products, at, size, spot + t * outputs * size, count, outputs, i > 0)
        for q in range(out_w):
            place = ((block * out_h + line) * out_w + q) * out_channels + panel + first
            for r in range(min(rows, here)):
                shift = bias[panel + first + r] if bias.size > 0 else y.dtype.type(0)
                for lane in range(0, pictures, lanes):
                    source_at = spot + q * pool[1] * size + r * pictures + lane
                    value = simd.load(products, source_at)
                    for j in range(1, pool[1]):
                        value = maximum(value, simd.load(products, source_at + j * size))
                    value = simd.clamp(simd.add(value, simd.broadcast(y, shift)), low, high)
                    simd.store(y, (place + r) * pictures + lane, value)


@kernel
def batch_toom_conv(
    x, u, bias, y, v, products, spans, source, conv, target, kernel_shape, begin, pool, schedule, low, high
):
    """y = clamp(bias + convolution of x, the largest of each window of `pool`, low, high); stride 1 along a line.

    x, y: (block, h, w, channel, picture). u: weights from batch_toom_weights. bias (channels), or empty. v: for each
    thread, all lines of a block at all points; products: for each thread, a tile at all points, and a tile of all
    columns of the convolution. spans: int64; for each line of the convolution, the first line of x and the first of
    the kernel that meet, and how many do. source: (h, w, channels) of x; conv: (h, w) of the convolution; target: (h,
    w, channels) of y. kernel_shape: (lines, lanes of a weight panel). begin: padding at the left. pool: (h, w).
    schedule: (blocks, outputs of a tile, rows of a tile, elements of v and of products for a thread).
    """
    blocks, outputs, tile_rows, v_slot, products_slot = schedule
    tiles = (conv[1] + outputs - 1) // outputs
    for index in prange(blocks):
        block = np.int64(index)
        thread = get_thread_id()
        slot, at = thread * v_slot, thread * products_slot
        _evaluate(x, v, slot, block, source, begin, outputs, tiles)
        for line in range(target[0]):
            if tile_rows == FEW_ROWS:
                few, row = tile.zeros(y, FEW_ROWS, PICTURE_VECS), tile.zeros(y, 1, PICTURE_VECS)
                _tile_line(
                    few, row, block, line, v, slot, u, bias, y, products, at, spans, source, conv, target,
                    kernel_shape, pool, outputs, tiles, low, high,
                )  # fmt: skip
            else:
                more, more_row = tile.zeros(y, MORE_ROWS, PICTURE_VECS), tile.zeros(y, 1, PICTURE_VECS)
                _tile_line(
                    more, more_row, block, line, v, slot, u, bias, y, products, at, spans, source, conv, target,
                    kernel_shape, pool, outputs, tiles, low, high,
                )  # fmt: skip
