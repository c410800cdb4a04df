"""Means and variances of rows of channels, (rows, channels), in tiles of fixed size; `dims` is (rows, channels), `tile`
the same of the largest tile.

Memory is read once: distances are those from the mean of a tile's first rows, which cannot lie so far from the tile's
own that the difference of sums loses more than a few bits. Within a tile a few rows are added up, then their sums, so
that errors grow with 16 + 16 terms and not with 256. Tiles are joined in float64, in their order.
"""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cpu import simd
from nbcnn.kernels.cpu.jit import inlined, serial
from nbcnn.kernels.cpu.row_tiles import pitch_of

__all__ = ["RUN", "add_up", "merge_moments", "pitch", "tile_moments", "tile_of", "tiles_of"]

RUN = 16
"""Rows that are added up before their sum is added to the tile's."""
AHEAD = 8
"""Rows that are asked for before they are needed."""

pitch = serial(pitch_of)


@serial
def tile_of(task, dims, tile):
    """Of a tile: first row and one past the last, first channel and number of channels, number of the block of rows."""
    rows, channels = dims
    blocks = (channels + tile[1] - 1) // tile[1]
    first, block = task % blocks * tile[1], task // blocks
    row = block * tile[0]
    return row, min(row + tile[0], rows), first, min(tile[1], channels - first), block


@serial
def tiles_of(dims, tile):
    """The number of tiles."""
    rows, channels = dims
    return ((rows + tile[0] - 1) // tile[0]) * ((channels + tile[1] - 1) // tile[1])


@serial
def add_up(sums, at, run, start, count, lanes):
    """Add a run's sums to the tile's, and begin a new run."""
    for c in range(0, count, lanes):
        simd.store(sums, at + c, simd.add(simd.load(sums, at + c), simd.load(run, start + c)))
    run[start : start + pitch(count)] = 0


@inlined
def _middle(x, at, rows, step, left):
    """About the mean of the first rows: the mean of the first eight, or of as many as there are."""
    count = min(rows, 8)
    total = simd.load_first(x, at, left)
    for row in range(1, count):
        total = simd.add(total, simd.load_first(x, at + row * step, left))
    return simd.mul(total, simd.broadcast(x, 1 / x.dtype.type(count)))


@inlined
def _finish(x, partials, mean, square, middle, plain, squares, rows, left):
    """Mean and squares of what was summed as distances from `middle`."""
    shift = simd.mul(plain, simd.broadcast(x, 1 / x.dtype.type(rows)))
    back = simd.mul(shift, simd.broadcast(x, x.dtype.type(-1)))
    simd.store_first(partials, mean, simd.add(middle, shift), left)
    simd.store_first(partials, square, simd.fma(back, plain, squares), left)


@serial
def _strip(x, at, rows, step, partials, mean, square, left):
    """Four registers of channels, whose sums stay in registers: stores would meet loads that are yet to come."""
    w = simd.lanes(x)
    left1, left2, left3 = left - w, left - 2 * w, left - 3 * w
    a = _middle(x, at, rows, step, left)
    b = _middle(x, at + w, rows, step, left1)
    c = _middle(x, at + 2 * w, rows, step, left2)
    d = _middle(x, at + 3 * w, rows, step, left3)
    zero = simd.zeros(x)
    sum_a, sum_b, sum_c, sum_d = zero, zero, zero, zero
    squares_a, squares_b, squares_c, squares_d = zero, zero, zero, zero
    for begin in range(0, rows, RUN):
        run_a, run_b, run_c, run_d = zero, zero, zero, zero
        more_a, more_b, more_c, more_d = zero, zero, zero, zero
        for row in range(begin, min(begin + RUN, rows)):
            place = at + row * step
            for k in range(4):
                simd.prefetch(x, place + AHEAD * step + k * w)
            e = simd.sub(simd.load_first(x, place, left), a)
            f = simd.sub(simd.load_first(x, place + w, left1), b)
            g = simd.sub(simd.load_first(x, place + 2 * w, left2), c)
            h = simd.sub(simd.load_first(x, place + 3 * w, left3), d)
            run_a, run_b, run_c, run_d = simd.add(run_a, e), simd.add(run_b, f), simd.add(run_c, g), simd.add(run_d, h)
            more_a, more_b = simd.fma(e, e, more_a), simd.fma(f, f, more_b)
            more_c, more_d = simd.fma(g, g, more_c), simd.fma(h, h, more_d)
        sum_a, sum_b = simd.add(sum_a, run_a), simd.add(sum_b, run_b)
        sum_c, sum_d = simd.add(sum_c, run_c), simd.add(sum_d, run_d)
        squares_a, squares_b = simd.add(squares_a, more_a), simd.add(squares_b, more_b)
        squares_c, squares_d = simd.add(squares_c, more_c), simd.add(squares_d, more_d)
    _finish(x, partials, mean, square, a, sum_a, squares_a, rows, left)
    _finish(x, partials, mean + w, square + w, b, sum_b, squares_b, rows, left1)
    _finish(x, partials, mean + 2 * w, square + 2 * w, c, sum_c, squares_c, rows, left2)
    _finish(x, partials, mean + 3 * w, square + 3 * w, d, sum_d, squares_d, rows, left3)


@serial
def tile_moments(task, x, partials, dims, tile):
    """Mean of a tile, and sum of squared distances from it, by channel."""
    row0, row1, first, count, block = tile_of(task, dims, tile)
    mean = block * 2 * pitch(dims[1]) + first
    square = mean + pitch(dims[1])
    for c in range(0, count, 4 * simd.lanes(x)):
        at = row0 * dims[1] + first + c
        _strip(x, at, row1 - row0, dims[1], partials, mean + c, square + c, count - c)


@serial
def merge_moments(c, partials, mean, var, dims, tile):
    """Mean and variance of a channel, tile after tile by the update of Chan, Golub and LeVeque ("Updating Formulae and
    a Pairwise Algorithm", 1979).
    """
    rows, width = dims[0], pitch(dims[1])
    total, center, squares = 0, 0.0, 0.0
    for row in range(0, rows, tile[0]):
        count = min(tile[0], rows - row)
        at = row // tile[0] * 2 * width + c
        delta = np.float64(partials[at]) - center
        center += delta * count / (total + count)
        squares += np.float64(partials[at + width]) + delta * delta * total * count / (total + count)
        total += count
    mean[c] = center
    var[c] = squares / rows
