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
from nbcnn.kernels.cuda.row_parts import parts_of

__all__ = ["column_moments", "join", "thread_moments"]


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
    """Mean and squares of what all lanes of a column have, `total` in all."""
    number = np.float64(count)
    center = sum_lanes(shared, number * mean) / np.float64(total)
    distance = mean - center
    return center, sum_lanes(shared, squares + number * distance * distance)


@device
def _rows_in(part, rows, parts, lanes):
    """The number of rows in a part: so many of each round of all parts, and what is left for it of the last round."""
    rounds = divide(rows, parts * lanes)
    return rounds * lanes + min(max(rows - (rounds * parts + part) * lanes, 0), lanes)


@kernel
def _part_moments(x, mean, var, partials, dims, parts):
    shared = cuda.shared.array(BLOCK, types.float64)
    rows, columns = dims[1], dims[2]
    c, part, image, count, at, step = stripe_of(dims, parts)
    middle, squares = thread_moments(x, at, count, step)
    middle, squares = join(shared, count, middle, squares, _rows_in(part, rows, parts, cuda.blockDim.y))
    if cuda.threadIdx.y == 0 and c < columns:
        if parts == 1:
            mean[image * columns + c] = middle
            var[image * columns + c] = squares / np.float64(rows)
        else:
            place = (image * parts + part) * 2 * columns + c
            partials[place] = middle
            partials[place + columns] = squares


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
    parts, threads = parts_of(*dims), column_threads(dims[2])
    launch(_part_moments, blocks_of(dims, parts, threads), threads, x, mean, var, partials, dims, parts)
    if parts > 1:
        blocks, merging = merge_shape(dims)
        launch(_merge_moments, blocks, merging, partials, mean, var, dims, parts, threads[1])
