"""How a tile of a product lies in shared memory and in the registers of its warps.

A tile has 32 * len(rows) pixels by 64 * len(columns) channels, where `rows` and `columns` are tuples: the compiler must
know their lengths, and nothing else of them counts. Its four warps have a quarter each, two by two.

A step takes DEPTH elements of the depth, k. Of the pixels, shared memory holds rows of DEPTH neighbours; of the
weights, chunks of four: channels 2 c and 2 c + 1, first at an even k, then at the next one. In the line of chunks of
depths 2 p and 2 p + 1, chunk c lies at place c ^ turn(p). So a warp reads both with accesses of 16 bytes that meet all
banks of shared memory, and that give a tensor core's operands in the order of its registers.

To the tensor core, channels are the rows of D and pixels its columns; its numbers of depth, row and column may stand
for any others, as long as all who use them agree. A lane (g, t) reads depths 4 t to 4 t + 3 of a pixel at once: 0 and 1
of them are k = t and t + 4 of one product, 2 and 3 of a second one. Rows g and g + 8 are neighbouring channels, and a
second D has the next two. So a lane ends with four neighbouring channels for each of its pixels, which it stores at
once: of 32 channels, 4 g to 4 g + 3, and of eight pixels, 2 t and 2 t + 1.

Where numbers have 16 bits, an element of the depth is a word: two neighbours of a pixel, or two depths of a channel's
weights, which a tensor core takes as they are.
"""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import cuda
from nbcnn.kernels.cuda.memory import load
from nbcnn.kernels.cuda.mma import multiply, multiply_bfloat16, multiply_float16, multiply_pairs, tf32
from nbcnn.kernels.cuda.tiling import DEPTH
from nbcnn.kernels.cuda.unroll import each, inlined

__all__ = [
    "channel_tiles",
    "corner",
    "lane_of",
    "multiply_tile",
    "multiply_tile_bfloat16",
    "multiply_tile_exactly",
    "multiply_tile_float16",
    "pixel_tiles",
    "weight_place",
]

TWO = (0, 0)


@inlined
def lane_of(thread):
    """(g, t) of a thread in its warp."""
    return (thread & 31) >> 2, thread & 3


@inlined
def corner(thread, rows, columns):
    """Pixel and channel of the tile where the part of a thread's warp begins."""
    warp = thread >> 5
    return (warp & 1) * (16 * len(rows)), (warp >> 1) * (32 * len(columns))


@inlined
def pixel_tiles(rows):
    """A tuple for each column of D's of a warp: eight pixels."""
    return rows + rows


@inlined
def channel_tiles(columns):
    """A tuple for each row of D's of a warp: sixteen channels."""
    return columns + columns


@inlined
def weight_place(p, c, columns):
    """Where, behind the pixels of a step, the chunk of channels 2 c and 2 c + 1, below 32, at depths 2 p and 2 p + 1
    lies. Those of 32 channels further on are 64 elements further on.
    """
    turn = ((p >> 1) & 1) | (p & 4)
    return p * (128 * len(columns)) + 4 * (c ^ turn)


@inlined
def _pixels(_, j, args):
    """Four depths of pixel 8 j + g."""
    buffer, at = args
    return load(buffer, at + 8 * DEPTH * j)


@inlined
def _chunk(_, i, args):
    """What a lane has of row i of D's. at: where its chunks lie, for even and odd i."""
    buffer, even, odd = args
    return load(buffer, (odd if i & 1 else even) + 64 * (i >> 1))


@inlined
def _round(value, i, nothing):
    return tf32(value)


@inlined
def _rounded(fragment, i, nothing):
    return each(_round, fragment, 0)


@inlined
def _as_it_is(fragment, i, nothing):
    return fragment


@inlined
def _pair(four, i, second):
    """The fragment of B for the first or the second product."""
    return (four[2], four[3]) if second else (four[0], four[1])


@inlined
def _multiply(product, prepare, sums, buffer, at, rows, columns):
    thread = cuda.threadIdx.x
    (g, t), (pixel, channel) = lane_of(thread), corner(thread, rows, columns)
    pixels = each(_pixels, pixel_tiles(rows), (buffer, at + (pixel + g) * DEPTH + 4 * t))
    weights = at + 32 * len(rows) * DEPTH + 2 * channel
    even, odd = weights + weight_place(2 * t, 2 * g, columns), weights + weight_place(2 * t, 2 * g + 1, columns)
    fragments = each(prepare, each(_chunk, channel_tiles(columns), (buffer, even, odd)), 0)
    sums = product(sums, fragments, each(prepare, each(_pair, pixels, False), 0))
    line = 128 * len(columns)
    fragments = each(prepare, each(_chunk, channel_tiles(columns), (buffer, even + line, odd + line)), 0)
    return product(sums, fragments, each(prepare, each(_pair, pixels, True), 0))


@inlined
def multiply_tile(sums, buffer, at, rows, columns):
    """sums + the product of one step, which lies in shared memory from `at` on, on tensor cores."""
    return _multiply(multiply, _rounded, sums, buffer, at, rows, columns)


@inlined
def multiply_tile_float16(sums, buffer, at, rows, columns):
    """As multiply_tile, of words that are pairs of float16."""
    return _multiply(multiply_float16, _as_it_is, sums, buffer, at, rows, columns)


@inlined
def multiply_tile_bfloat16(sums, buffer, at, rows, columns):
    """As multiply_tile, of words that are pairs of bfloat16."""
    return _multiply(multiply_bfloat16, _as_it_is, sums, buffer, at, rows, columns)


@inlined
def _pixel(_, i, args):
    """Four depths of pixel 8 (i / 2) + 2 t + i % 2."""
    buffer, at = args
    return load(buffer, at + DEPTH * (8 * (i >> 1) + (i & 1)))


@inlined
def _chunks(_, half, args):
    """Two depths of all channels."""
    buffer, even, odd, columns = args
    line = 128 * len(columns) * half
    return each(_chunk, channel_tiles(columns), (buffer, even + line, odd + line))


@inlined
def multiply_tile_exactly(sums, buffer, at, rows, columns):
    """As multiply_tile, in float32; a thread has the same sums. Lanes walk the depth from different places, so that
    they read from different banks.
    """
    thread = cuda.threadIdx.x
    (g, t), (pixel, channel) = lane_of(thread), corner(thread, rows, columns)
    weights = at + 32 * len(rows) * DEPTH + 2 * channel
    for step in range(0, DEPTH, 4):
        k = (step + 4 * t) & (DEPTH - 1)
        pixels = each(_pixel, pixel_tiles(rows + rows), (buffer, at + (pixel + 2 * t) * DEPTH + k))
        even = weights + weight_place(k >> 1, 2 * g, columns)
        odd = weights + weight_place(k >> 1, 2 * g + 1, columns)
        sums = multiply_pairs(sums, each(_chunks, TWO, (buffer, even, odd, columns)), pixels)
    return sums
