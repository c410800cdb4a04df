"""Means and variances of the columns of (outer, rows, columns).

Memory is read once. A thread sums up distances from the mean of its first rows, in float64 but for four neighbours;
then its mean and its squared distances from that are known. Those of threads, and of parts, are joined: with n, m and s
of each, the mean is sum(n m) / sum(n), the squares are sum(s + n (m - mean)^2), which loses nothing to cancellation
(Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm", 1979).
"""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, device, kernel, launch, types
from nbcnn.kernels.cuda.block import sum_lanes
from nbcnn.kernels.cuda.columns import blocks_of, column_of, column_threads, merge_shape, stripe_of
from nbcnn.kernels.cuda.index import divide
from nbcnn.kernels.cuda.memory import WIDTH, load_row
from nbcnn.kernels.cuda.row_parts import parts_of

__all__ = ["column_moments", "join", "thread_moments"]

QUADS = (WIDTH, WIDTH)
"""Rows and columns of which a thread sums up neighbours in the elements' type."""


@device
def thread_moments(x, at, count, step):
    """Mean, and sum of squared distances from it, of `count` elements that lie `step` apart; at, step: unsigned."""
    if count == 0:
        return 0.0, 0.0
    shift, two, four = x[at], step + step, step + step + step + step
    if count >= 4:
        shift = ((x[at] + x[at + step]) + (x[at + two] + x[at + two + step])) * x.dtype.type(0.25)
    plain, squares = 0.0, 0.0
    for _ in range(count >> 2):
        a, b, c, d = x[at], x[at + step], x[at + two], x[at + two + step]
        a, b, c, d = a - shift, b - shift, c - shift, d - shift
        plain += np.float64((a + b) + (c + d))
        squares += np.float64((a * a + b * b) + (c * c + d * d))
        at += four
    for _ in range(count & 3):
        a = x[at] - shift
        plain += np.float64(a)
        squares += np.float64(a * a)
        at += step
    offset = plain / np.float64(count)
    squares -= plain * offset
    return np.float64(shift) + offset, 0.0 if squares < 0 else squares


@device
def join(shared, count, mean, squares, total):
    """Mean and squares of what all lanes of a column have, `total` in all; zeros of nothing."""
    number = np.float64(count)
    center = sum_lanes(shared, number * mean) / np.float64(max(total, 1))
    distance = mean - center
    return center, sum_lanes(shared, squares + number * distance * distance)


@device
def _rows_in(part, rows, parts, lanes):
    """The number of rows in a part: so many of each round of all parts, and what is left for it of the last round."""
    rounds = divide(rows, parts * lanes)
    return rounds * lanes + min(max(rows - (rounds * parts + part) * lanes, 0), lanes)


@device
def _put(mean, var, partials, middle, squares, place, dims, parts):
    """What a block found of a column. place: its outer index, its part and itself."""
    image, part, c = place
    rows, columns = dims
    if parts == 1:
        mean[image * columns + c] = middle
        var[image * columns + c] = squares / np.float64(rows)
    else:
        at = (image * parts + part) * 2 * columns + c
        partials[at] = middle
        partials[at + columns] = squares


@kernel
def _part_moments(x, mean, var, partials, dims, parts):
    shared = cuda.shared.array(BLOCK, types.float64)
    rows, columns = dims[1], dims[2]
    c, part, image, count, at, step = stripe_of(dims, parts)
    middle, squares = thread_moments(x, at, count, step)
    middle, squares = join(shared, count, middle, squares, _rows_in(part, rows, parts, cuda.blockDim.y))
    if cuda.threadIdx.y == 0 and c < columns:
        _put(mean, var, partials, middle, squares, (image, part, c), (rows, columns), parts)


@kernel
def _part_moments_quads(x, mean, var, partials, dims, parts):
    """_part_moments of four columns a thread; dims counts quads of columns. Rows that are not there are `shift`."""
    shared = cuda.shared.array(BLOCK, types.float64)
    plain, squares = cuda.local.array(WIDTH, types.float64), cuda.local.array(WIDTH, types.float64)
    shift, v = cuda.local.array(WIDTH, x.dtype), cuda.local.array(QUADS, x.dtype)
    rows, columns = dims[1], dims[2] * WIDTH
    quad, part, image, count, start, apart = stripe_of(dims, parts)
    at, step = np.int64(start) * WIDTH, np.int64(apart) * WIDTH
    for lane in range(WIDTH):
        plain[lane], squares[lane], shift[lane] = 0.0, 0.0, 0
    for first in range(0, count, WIDTH):
        for k in range(WIDTH):
            if first + k < count:
                load_row(v, k, x, at + k * step)
            else:
                for lane in range(WIDTH):
                    v[k, lane] = v[0, lane] if first == 0 else shift[lane]
        for lane in range(WIDTH):
            if first == 0:
                shift[lane] = ((v[0, lane] + v[1, lane]) + (v[2, lane] + v[3, lane])) * x.dtype.type(0.25)
            for k in range(WIDTH):
                v[k, lane] = v[k, lane] - shift[lane] if first + k < count else 0
            a, b, c, d = v[0, lane], v[1, lane], v[2, lane], v[3, lane]
            plain[lane] += np.float64((a + b) + (c + d))
            squares[lane] += np.float64((a * a + b * b) + (c * c + d * d))
        at += WIDTH * step
    here = _rows_in(part, rows, parts, cuda.blockDim.y)
    for lane in range(WIDTH):
        offset = plain[lane] / np.float64(count) if count > 0 else 0.0
        least = squares[lane] - plain[lane] * offset
        middle, total = join(shared, count, np.float64(shift[lane]) + offset, 0.0 if least < 0 else least, here)
        c = quad * WIDTH + lane
        if cuda.threadIdx.y == 0 and c < columns:
            _put(mean, var, partials, middle, total, (image, part, c), (rows, columns), parts)


@kernel
def _merge_moments(partials, mean, var, dims, parts, lanes):
    shared = cuda.shared.array(BLOCK, types.float64)
    rows, columns = dims[1], dims[2]
    image, c = column_of(columns)
    start, plain, squares = image * parts * 2 * columns + c, 0.0, 0.0
    mine = parts if c < columns else 0
    for part in range(cuda.threadIdx.y, mine, cuda.blockDim.y):
        plain += np.float64(_rows_in(part, rows, parts, lanes)) * partials[start + part * 2 * columns]
    center = sum_lanes(shared, plain) / np.float64(rows)
    for part in range(cuda.threadIdx.y, mine, cuda.blockDim.y):
        place = start + part * 2 * columns
        distance = partials[place] - center
        squares += partials[place + columns] + np.float64(_rows_in(part, rows, parts, lanes)) * distance * distance
    squares = sum_lanes(shared, squares)
    if cuda.threadIdx.y == 0 and c < columns:
        mean[image * columns + c] = center
        var[image * columns + c] = squares / np.float64(rows)


def column_moments(x, mean, var, partials, dims):
    """mean, var (outer, columns) of x (outer, rows, columns) = dims. partials: float64, 2 * columns for each part of
    each outer index (row_parts.py).
    """
    parts, quads = parts_of(*dims), dims[2] % WIDTH == 0
    shape, code = ((*dims[:2], dims[2] // WIDTH), _part_moments_quads) if quads else (dims, _part_moments)
    threads = column_threads(shape[2])
    launch(code, blocks_of(shape, parts, threads), threads, x, mean, var, partials, shape, parts)
    if parts > 1:
        blocks, merging = merge_shape(dims)
        launch(_merge_moments, blocks, merging, partials, mean, var, dims, parts, threads[1])
