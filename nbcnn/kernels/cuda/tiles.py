"""How a tile of a product lies in shared memory and in the registers of its warps.

A tile has 32 * len(rows) rows and 64 * len(columns) columns, where `rows` and `columns` are tuples: the compiler must
know their lengths, and nothing else of them counts. Its four warps have a quarter each, two by two.

A step takes DEPTH elements of the depth. Of the left factor it holds rows of DEPTH neighbours; of the right one DEPTH
rows of columns, in chunks of four, of which row k has chunk number c at place c ^ (k / 4). So a warp reads both with
accesses of 16 bytes that meet all banks of shared memory.

The tensor core's own numbers of depth, k, and columns, n, may stand for any others, as long as both factors agree. A
lane (g, t) reads depth 4 t to 4 t + 3 of its rows at once, which serve two products: elements 0 and 1 as k = t and
t + 4 of the first one, 2 and 3 of the second. Of the right factor it reads, for each of these depths, four neighbouring
columns, one of each of four D's: chunk g / 2 of eight for even g, and 4 + g / 2 for odd ones. So it ends with columns
4 t to 4 t + 3, and 16 further on, of its rows g and g + 8 of each D: neighbours, which it stores at once.
"""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import cuda
from nbcnn.kernels.cuda.memory import load
from nbcnn.kernels.cuda.mma import multiply, multiply_exactly, tf32
from nbcnn.kernels.cuda.tiling import DEPTH
from nbcnn.kernels.cuda.unroll import each, groups, inlined, joined

__all__ = ["chunk_place", "columns_of", "corner", "lane_of", "multiply_tile", "multiply_tile_exactly"]

FOUR = (0, 0, 0, 0)


@inlined
def lane_of(thread):
    """(g, t) of a thread in its warp."""
    return (thread & 31) >> 2, thread & 3


@inlined
def corner(thread, rows, columns):
    """Row and column of the tile where the part of a thread's warp begins."""
    warp = thread >> 5
    return (warp & 1) * (16 * len(rows)), (warp >> 1) * (32 * len(columns))


@inlined
def columns_of(columns):
    """A tuple for each column of D's of a warp."""
    return columns + columns + columns + columns


@inlined
def chunk_place(k, chunk, columns):
    """Where, in the right factor's part of shared memory, a chunk of row k lies."""
    return k * (64 * len(columns)) + 4 * (chunk ^ (k >> 2))


@inlined
def _left(_, r, args):
    """Four depths of row 8 r."""
    buffer, at = args
    return load(buffer, at + 8 * DEPTH * r)


@inlined
def _first(pair, i, args):
    """The fragment of A for the first product."""
    upper, lower = pair
    return tf32(upper[0]), tf32(lower[0]), tf32(upper[1]), tf32(lower[1])


@inlined
def _second(pair, i, args):
    upper, lower = pair
    return tf32(upper[2]), tf32(lower[2]), tf32(upper[3]), tf32(lower[3])


@inlined
def _right(_, i, args):
    """Fragments of B for four D's: of two neighbouring rows, 32 columns from i to i."""
    buffer, at, across = args
    a, b = load(buffer, at + 32 * i), load(buffer, at + 32 * i + across)
    return (tf32(a[0]), tf32(b[0])), (tf32(a[1]), tf32(b[1])), (tf32(a[2]), tf32(b[2])), (tf32(a[3]), tf32(b[3]))


@inlined
def multiply_tile(sums, buffer, at, rows, columns):
    """sums + the product of one step, which lies in shared memory from `at` on, on tensor cores."""
    thread = cuda.threadIdx.x
    (g, t), (row, column) = lane_of(thread), corner(thread, rows, columns)
    across = 64 * len(columns)
    left = groups(each(_left, rows + rows, (buffer, at + (row + g) * DEPTH + 4 * t)), rows)
    chunk = (column >> 2) + (g >> 1) + 4 * (g & 1)
    weights = at + 32 * len(rows) * DEPTH + chunk_place(4 * t, chunk, columns)
    right = joined(each(_right, columns, (buffer, weights, across)))
    sums = multiply(sums, each(_first, left, 0), right)
    right = joined(each(_right, columns, (buffer, weights + 2 * across, across)))
    return multiply(sums, each(_second, left, 0), right)


@inlined
def _four_columns(_, i, args):
    buffer, at = args
    return load(buffer, at + 16 * i)


@inlined
def _four_rows(_, k, args):
    buffer, at, columns = args
    return each(_four_columns, columns + columns, (buffer, at + 64 * len(columns) * k))


@inlined
def multiply_tile_exactly(sums, buffer, at, rows, columns):
    """As multiply_tile, in float32; a thread has the same sums."""
    thread = cuda.threadIdx.x
    (g, t), (row, column) = lane_of(thread), corner(thread, rows, columns)
    for k in range(0, DEPTH, 4):
        left = each(_left, rows + rows, (buffer, at + (row + g) * DEPTH + k))
        weights = at + 32 * len(rows) * DEPTH + chunk_place(k, (column >> 2) + t, columns)
        sums = multiply_exactly(sums, left, each(_four_rows, FOUR, (buffer, weights, columns)))
    return sums
