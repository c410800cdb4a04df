"""Sums over the rows of (outer, rows, columns) = `dims`, and work on each element by the factors of its column.

Neighbouring threads of a block take neighbouring columns, blockDim.y rows at a time. To sum, all blocks together go
through the rows from the first to the last, each part of them (row_parts.py) a stripe; what works on elements begins
with the last ones, which are still in the cache. What parts leave lies as (outer, parts, 2, columns), in float64;
another kernel brings it together.
"""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, device
from nbcnn.kernels.cuda.block import sum_lanes, threads_for
from nbcnn.kernels.cuda.index import divide, remainder

__all__ = [
    "blocks_of",
    "column_of",
    "column_threads",
    "column_totals",
    "merge_shape",
    "part_of",
    "streamed",
    "stripe_of",
]

SHARE = 16
"""Rows that a thread takes where nothing is summed."""


def column_threads(columns: int) -> tuple[int, int, int]:
    """The shape of a block: as many columns as lie side by side, and rows."""
    return threads_for(columns, BLOCK, 1)


def blocks_of(dims: tuple[int, ...], parts: int, threads: tuple[int, int, int]) -> int:
    """Blocks of a grid of (outer, parts, tiles of columns)."""
    return dims[0] * parts * -(-dims[2] // threads[0])


def streamed(dims: tuple[int, ...], share: int = SHARE) -> tuple[int, int, tuple[int, int, int]]:
    """Rows of a block, blocks and their shape, where each element is worked on by itself. share: rows of a thread."""
    threads = column_threads(dims[2])
    size = share * threads[1]
    return size, blocks_of(dims, -(-dims[1] // size), threads), threads


def merge_shape(dims: tuple[int, ...]) -> tuple[int, tuple[int, int, int]]:
    """Blocks and their shape where parts are brought together: few columns, many parts at a time."""
    threads = threads_for(min(dims[2], 8), BLOCK, 1)
    return dims[0] * -(-dims[2] // threads[0]), threads


@device
def parts_in(rows, size):
    return divide(rows + size - 1, size)


@device
def _place(block, columns, parts):
    """Of a thread in a grid of (outer, parts, tiles of columns): its column, part and outer index."""
    tiles = parts_in(columns, cuda.blockDim.x)
    rest = divide(block, tiles)
    c = remainder(block, tiles) * cuda.blockDim.x + cuda.threadIdx.x
    return c, remainder(rest, parts), divide(rest, parts)


@device
def part_of(dims, size):
    """Of a thread that works on elements: its column and outer index, how many rows it takes of its block's `size`,
    where the first lies and how far apart they are. Outside the columns it has none.

    The last two are unsigned: an index that may be negative costs more to look up than what is found to work with.
    """
    rows, columns = dims[1], dims[2]
    c, part, image = _place(cuda.gridDim.x - 1 - cuda.blockIdx.x, columns, parts_in(rows, size))
    first = part * size + cuda.threadIdx.y
    left = min((part + 1) * size, rows) - first
    count = parts_in(left, cuda.blockDim.y) if left > 0 and c < columns else 0
    at = (image * rows + first) * columns + c
    return c, image, count, np.uint64(at), np.uint64(columns * cuda.blockDim.y)


@device
def stripe_of(dims, parts):
    """The same of a thread that sums: its column, part and outer index, number of rows, first place and distance."""
    rows, columns = dims[1], dims[2]
    c, part, image = _place(cuda.blockIdx.x, columns, parts)
    first, apart = part * cuda.blockDim.y + cuda.threadIdx.y, parts * cuda.blockDim.y
    count = parts_in(rows - first, apart) if first < rows and c < columns else 0
    return c, part, image, count, np.uint64((image * rows + first) * columns + c), np.uint64(columns * apart)


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
