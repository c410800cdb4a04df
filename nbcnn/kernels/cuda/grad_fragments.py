"""What a lane of the gradient by the weights on tensor cores reads from shared memory, and where it writes its sums.

The tensor core's own numbers of rows and columns may stand for any others. A lane (g, t) of a warp reads, of pixels t
and t + 4, elements 4 g to 4 g + 3 of each 32: as its rows g and g + 8 of two fragments of A, or as its column g of four
fragments of B. So it reads 16 bytes at once; and because the line of a pixel is 8 elements longer than a multiple of
32, the eight lanes that are served together meet all banks. It ends with columns 8 t to 8 t + 7 of each 32, which lie
side by side. In full precision it makes the same sums.

Of 16 bits, words hold neighbouring channels of one pixel, while products take neighbouring pixels of one channel.
`load_transposed` exchanges them on the way; lines of 4 words more than a multiple of 32 let the eight lines that it
reads at once meet all banks. Numbers of rows and columns are as they are.
"""

from __future__ import annotations

from nbcnn.kernels.cuda.index import remainder
from nbcnn.kernels.cuda.memory import load, store, store_pair
from nbcnn.kernels.cuda.mma import tf32
from nbcnn.kernels.cuda.unroll import each, inlined

__all__ = [
    "GROUP",
    "exact_columns",
    "exact_rows",
    "tf32_columns",
    "tf32_rows",
    "two_columns",
    "write_pairs",
    "write_quads",
]

GROUP = 32
"""Elements of which a lane reads four at once."""


@inlined
def tf32_rows(offset, number, args):
    """A lane's elements of two fragments of A, from x."""
    strip, start, pitch = args
    a, b = load(strip, start + offset), load(strip, start + offset + 4 * pitch)
    return (tf32(a[0]), tf32(a[1]), tf32(b[0]), tf32(b[1])), (tf32(a[2]), tf32(a[3]), tf32(b[2]), tf32(b[3]))


@inlined
def tf32_columns(offset, number, args):
    """A lane's elements of four fragments of B, from dy."""
    strip, start, pitch = args
    a, b = load(strip, start + offset), load(strip, start + offset + 4 * pitch)
    return (tf32(a[0]), tf32(b[0])), (tf32(a[1]), tf32(b[1])), (tf32(a[2]), tf32(b[2])), (tf32(a[3]), tf32(b[3]))


@inlined
def exact_rows(offset, number, args):
    """Four rows of x, of four pixels each."""
    strip, start, pitch = args
    place = start + offset
    a, b = load(strip, place), load(strip, place + pitch)
    c, d = load(strip, place + 2 * pitch), load(strip, place + 3 * pitch)
    return (a[0], b[0], c[0], d[0]), (a[1], b[1], c[1], d[1]), (a[2], b[2], c[2], d[2]), (a[3], b[3], c[3], d[3])


@inlined
def _four(offset, number, args):
    strip, start = args
    return load(strip, start + offset)


@inlined
def exact_columns(offset, number, args):
    """A lane's columns of dy, of one pixel."""
    strip, start, places = args
    return each(_four, places, (strip, start + offset))


@inlined
def _write_four(a, b, c, d, m, n, args):
    """Four columns of one row."""
    parts, base, _m, _n, _across, rows, columns, width = args
    if (m < rows) & (n < columns):
        lane = remainder(n, width)
        store(parts, base + (n - lane) * rows + m * width + lane, a, b, c, d)


@inlined
def write_quads(quad, number, args):
    """A lane's sums of four fragments that are neighbours across."""
    across = args[4]
    a, b, c, d = quad
    m, n = args[2] + number // across // 2 * GROUP + number // across % 2 * 2, args[3] + number % across * GROUP
    _write_four(a[0], b[0], c[0], d[0], m, n, args)
    _write_four(a[1], b[1], c[1], d[1], m, n + 4, args)
    _write_four(a[2], b[2], c[2], d[2], m + 1, n, args)
    _write_four(a[3], b[3], c[3], d[3], m + 1, n + 4, args)


@inlined
def two_columns(words, number, args):
    """A lane's elements of two fragments of B, from pixels 0 to 7 and 8 to 15 of 8 channels and of the next 8."""
    return (words[0], words[2]), (words[1], words[3])


@inlined
def _write_two(a, b, m, n, args):
    """Two columns of one row."""
    parts, base, _m, _n, _across, rows, columns, width = args
    if (m < rows) & (n < columns):
        lane = remainder(n, width)
        store_pair(parts, base + (n - lane) * rows + m * width + lane, a, b)


@inlined
def write_pairs(sums, number, args):
    """A lane's sums of one fragment."""
    across = args[4]
    m, n = args[2] + number // across * 16, args[3] + number % across * 8
    _write_two(sums[0], sums[1], m, n, args)
    _write_two(sums[2], sums[3], m + 8, n, args)
