"""What a tile's sums start with, and how they are stored: the two ends of the kernels of tensor_conv.py."""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import cuda
from nbcnn.kernels.cuda.memory import aligned, load, store
from nbcnn.kernels.cuda.mma import zeros
from nbcnn.kernels.cuda.pixels import clamp, count, locate, row_of
from nbcnn.kernels.cuda.tiles import channel_tiles, corner, lane_of, pixel_tiles
from nbcnn.kernels.cuda.unroll import each, groups, inlined, turned

__all__ = ["begin", "end"]


@inlined
def _row_in_line(pixel, grid, target):
    """The element of y where a pixel of the grid begins, if it is the pixel of y of the same number."""
    return pixel * target[3]


@inlined
def _row_anywhere(pixel, grid, target):
    return row_of(locate(pixel, grid), target)


@inlined
def _bias(fragment, place, args):
    """What the sums of a D start with."""
    bias, first, left, rows = args
    i = place // (2 * len(rows))
    channel = 32 * (i >> 1) + 2 * (i & 1)
    a = bias[first + channel] if channel < left else bias.dtype.type(0)
    b = bias[first + channel + 1] if channel + 1 < left else bias.dtype.type(0)
    return a, a, b, b


@inlined
def _store_four(a, b, c, d, column, out, place, left):
    """Store four neighbours, which are all there or not at all, with accesses of 16 bytes."""
    residual, adds, y, low, high = out
    if column < left:
        at = place + column
        if adds:
            p, q, r, s = load(residual, at)
            a, b, c, d = a + p, b + q, c + r, d + s
        store(y, at, clamp(a, low, high), clamp(b, low, high), clamp(c, low, high), clamp(d, low, high))


@inlined
def _store_each(a, b, c, d, column, out, place, left):
    """Store those of four neighbours that are there."""
    _store_one(a, column, out, place, left)
    _store_one(b, column + 1, out, place, left)
    _store_one(c, column + 2, out, place, left)
    _store_one(d, column + 3, out, place, left)


@inlined
def _store_one(value, column, out, place, left):
    residual, adds, y, low, high = out
    if column < left:
        if adds:
            value += residual[place + column]
        y[place + column] = clamp(value, low, high)


@inlined
def _even_fours(pair, i, args):
    """The first pixel of two neighbouring D's: four of 32 channels."""
    a, b = pair
    _store_four(a[0], a[2], b[0], b[2], 32 * i, *args)


@inlined
def _odd_fours(pair, i, args):
    """The second pixel."""
    a, b = pair
    _store_four(a[1], a[3], b[1], b[3], 32 * i, *args)


@inlined
def _even_ones(pair, i, args):
    a, b = pair
    _store_each(a[0], a[2], b[0], b[2], 32 * i, *args)


@inlined
def _odd_ones(pair, i, args):
    a, b = pair
    _store_each(a[1], a[3], b[1], b[3], 32 * i, *args)


@inlined
def _finish(fragments, j, row_at, even, odd, args):
    """Pixels 8 j + 2 t and 8 j + 2 t + 1 of a warp."""
    out, first, start, left, grid, target, columns = args
    pairs = groups(fragments, columns)
    pixel = first + 8 * j
    if pixel < count(grid):
        each(even, pairs, (out, start + row_at(pixel, grid, target), left))
    if pixel + 1 < count(grid):
        each(odd, pairs, (out, start + row_at(pixel + 1, grid, target), left))


@inlined
def _finish_fours_in_line(fragments, j, args):
    _finish(fragments, j, _row_in_line, _even_fours, _odd_fours, args)


@inlined
def _finish_fours(fragments, j, args):
    _finish(fragments, j, _row_anywhere, _even_fours, _odd_fours, args)


@inlined
def _finish_ones(fragments, j, args):
    _finish(fragments, j, _row_anywhere, _even_ones, _odd_ones, args)


@inlined
def begin(bias, weights, block, cut, rows, columns):
    """The sums of a thread before the first step."""
    _pixel, channel, group, _part = block
    channel += corner(cuda.threadIdx.x, rows, columns)[1] + 4 * lane_of(cuda.threadIdx.x)[0]
    sums = zeros(channel_tiles(columns), pixel_tiles(rows))
    if bias.size > 0 and cut[0] == 1:
        sums = each(_bias, sums, (bias, group * weights[1] + channel, weights[1] - channel, rows))
    return sums


@inlined
def end(sums, residual, y, grid, target, weights, block, cut, rows, columns, low, high):
    """Store the sums of a thread, to the part of y that is this block's part of the depth."""
    pixel, channel, group, part = block
    (g, t), (row, column) = lane_of(cuda.threadIdx.x), corner(cuda.threadIdx.x, rows, columns)
    channel += column + 4 * g
    start = part * cut[2] + group * weights[1] + channel
    adds = residual.size > 0 and cut[0] == 1
    out, first, left = (residual, adds, y, low, high), pixel + row + 2 * t, weights[1] - channel
    fragments = turned(groups(sums, channel_tiles(columns)))
    fours = weights[1] % 4 == 0 and target[3] % 4 == 0 and aligned(y, 0) and (not adds or aligned(residual, 0))
    args = out, first, start, left, grid, target, columns
    # Decided once, and not for each pixel: the code that is run must be short enough for the cache of instructions.
    if fours and cut[4]:
        each(_finish_fours_in_line, fragments, args)
    elif fours:
        each(_finish_fours, fragments, args)
    else:
        each(_finish_ones, fragments, args)
