"""Sums over the rows of (outer, rows, columns) = `dims`, in parts of `size` rows.

A block takes one part of a tile of columns: neighbouring threads read neighbouring columns, blockDim.y rows at a time.
What parts leave lies as (outer, parts, 2, columns), in float64; another kernel brings it together.
"""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, device
from nbcnn.kernels.cuda.block import sum_lanes, threads_for
from nbcnn.kernels.cuda.index import divide, remainder

__all__ = ["blocks_of", "column_of", "column_threads", "column_totals", "merge_shape", "part_of", "parts_in"]


def column_threads(columns: int) -> tuple[int, int, int]:
    """The shape of a block: as many columns as lie side by side, and rows."""
    return threads_for(columns, BLOCK, 1)


def blocks_of(dims: tuple[int, ...], size: int, threads: tuple[int, int, int]) -> int:
    """Blocks of a grid of (outer, parts, tiles of columns)."""
    outer, rows, columns = dims[:3]
    return outer * -(-rows // size) * -(-columns // threads[0])


def merge_shape(dims: tuple[int, ...]) -> tuple[int, tuple[int, int, int]]:
    """Blocks and their shape where parts are brought together: few columns, many parts at a time."""
    threads = threads_for(min(dims[2], 8), BLOCK, 1)
    return dims[0] * -(-dims[2] // threads[0]), threads


@device
def parts_in(rows, size):
    return divide(rows + size - 1, size)


@device
def part_of(dims, size):
    """Of a thread in a grid of (outer, parts, tiles of columns): its column, part and outer index, how many rows it
    takes, where the first lies and how far apart they are. Outside the columns it has none.

    The last two are unsigned: an index that may be negative costs more to look up than what is found to work with.
    """
    rows, columns = dims[1], dims[2]
    tiles, parts = parts_in(columns, cuda.blockDim.x), parts_in(rows, size)
    rest = divide(cuda.blockIdx.x, tiles)
    c = remainder(cuda.blockIdx.x, tiles) * cuda.blockDim.x + cuda.threadIdx.x
    part, image = remainder(rest, parts), divide(rest, parts)
    first = part * size + cuda.threadIdx.y
    left = min((part + 1) * size, rows) - first
    count = divide(left + cuda.blockDim.y - 1, cuda.blockDim.y) if left > 0 and c < columns else 0
    at = (image * rows + first) * columns + c
    return c, part, image, count, np.uint64(at), np.uint64(columns * cuda.blockDim.y)


@device
def column_of(columns):
    """The outer index and the column of a thread in a grid of (outer, tiles of columns)."""
    tiles = parts_in(columns, cuda.blockDim.x)
    return divide(cuda.blockIdx.x, tiles), remainder(cuda.blockIdx.x, tiles) * cuda.blockDim.x + cuda.threadIdx.x


@device
def column_totals(shared, partials, image, c, parts, columns):
    """Both sums of a column over all parts; every lane gets them."""
    plain, product = 0.0, 0.0
    for part in range(cuda.threadIdx.y, parts if c < columns else 0, cuda.blockDim.y):
        place = (image * parts + part) * 2 * columns + c
        plain += partials[place]
        product += partials[place + columns]
    return sum_lanes(shared, plain), sum_lanes(shared, product)
