"""The gradient by the weights in float32, on tensor cores in TF32 or in full precision: conv_weight_grad's device code.

A block of 2 by 2 warps makes a tile of the gradient over a part of the pixels. Strips of x and dy, pixel after pixel,
come to shared memory by asynchronous copies, `stages` of them under way.

The tensor core's own numbers of rows and columns may stand for any others. A lane (g, t) of a warp reads, of pixels t
and t + 4, elements 4 g to 4 g + 3 of each 32: as its rows g and g + 8 of two fragments of A, or as its column g of four
fragments of B. So it reads 16 bytes at once; and because the line of a pixel is 8 elements longer than a multiple of
32, the eight lanes that are served together meet all banks. It ends with columns 8 t to 8 t + 7 of each 32, which lie
side by side. In full precision it makes the same sums.
"""

from __future__ import annotations

from functools import cache

from nbcnn.kernels.cuda._cuda import Kernel, cuda, kernel, types
from nbcnn.kernels.cuda.grad_places import enter_pixel, meets, pixel_of, row_of, start_of
from nbcnn.kernels.cuda.index import remainder
from nbcnn.kernels.cuda.memory import load, store
from nbcnn.kernels.cuda.mma import commit, copy_1, copy_4, multiply, multiply_exactly, shared_floats, tf32, wait, zeros
from nbcnn.kernels.cuda.unroll import each, inlined, joined
from nbcnn.kernels.cuda.unroll import groups as in_groups

__all__ = ["TENSOR_THREADS", "tensor_code", "tile_size"]

TENSOR_THREADS = 128
WARPS = 2
"""Warps of a block along each side."""
LANES = 32
FRAGMENT_ROWS, FRAGMENT_COLUMNS = 16, 8
GROUP, GAP = 32, 8
"""Elements of which a lane reads four at once; what the line of a pixel is longer than a multiple of them."""
SHARED_BYTES = 44 << 10
"""For strips; what a block may have without asking is 48 KiB, and the table of pixels takes some."""


def tile_size(rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of a tile, whose warps make so many fragments down and across."""
    return WARPS * rows * FRAGMENT_ROWS, WARPS * columns * FRAGMENT_COLUMNS


@inlined
def _rows(offset, number, args):
    """A lane's elements of two fragments of A, from x."""
    strip, start, pitch = args
    a, b = load(strip, start + offset), load(strip, start + offset + 4 * pitch)
    return (tf32(a[0]), tf32(a[1]), tf32(b[0]), tf32(b[1])), (tf32(a[2]), tf32(a[3]), tf32(b[2]), tf32(b[3]))


@inlined
def _columns(offset, number, args):
    """A lane's elements of four fragments of B, from dy."""
    strip, start, pitch = args
    a, b = load(strip, start + offset), load(strip, start + offset + 4 * pitch)
    return (tf32(a[0]), tf32(b[0])), (tf32(a[1]), tf32(b[1])), (tf32(a[2]), tf32(b[2])), (tf32(a[3]), tf32(b[3]))


@inlined
def _exact_rows(offset, number, args):
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
def _exact_columns(offset, number, args):
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
def _write(quad, number, args):
    """A lane's sums of four fragments that are neighbours across."""
    across = args[4]
    a, b, c, d = quad
    m, n = args[2] + number // across // 2 * GROUP + number // across % 2 * 2, args[3] + number % across * GROUP
    _write_four(a[0], b[0], c[0], d[0], m, n, args)
    _write_four(a[1], b[1], c[1], d[1], m, n + 4, args)
    _write_four(a[2], b[2], c[2], d[2], m + 1, n, args)
    _write_four(a[3], b[3], c[3], d[3], m + 1, n + 4, args)


@cache
def tensor_code(down: int, across: int, x_each: int, dy_each: int, dense: bool, exact: bool) -> Kernel:
    """The kernel for warps of down by across fragments, a multiple of 2 by one of 4. x_each, dy_each: elements that a
    copy takes, 4 or 1. dense: a single tap that does not move, in strides of 1: every pixel of dy lies on the same
    pixel of x. exact: in full precision.

    Its grid is (tiles, parts); `share` is pixels of a part.
    """
    size_m, size_n = tile_size(down, across)
    pitch_m, pitch_n = size_m + GAP, size_n + GAP
    depth = 8 if size_m * size_n > 128 * 64 else 16
    dy_strip, stage = depth * pitch_m, depth * (pitch_m + pitch_n)
    stages = min(5, SHARED_BYTES // (4 * stage))
    total, table_size = stages * stage, 2 * stages * depth
    warp_m, warp_n = size_m // WARPS, size_n // WARPS
    downs, rights, quads_across = tuple(range(0, warp_m, GROUP)), tuple(range(0, warp_n, GROUP)), across // 4
    quads = (0,) * (down * quads_across)
    fours, lines = tuple(place + 4 * k for place in rights for k in (0, 1)), tuple(k * pitch_n for k in range(4))
    down_tuple, across_tuple, under_way = (0,) * down, (0,) * across, (0,) * (stages - 2)
    x_line, dy_line = size_m // x_each, size_n // dy_each
    x_step, dy_step = TENSOR_THREADS // x_line, TENSOR_THREADS // dy_line
    x_copies, dy_copies = depth // x_step, depth // dy_step

    def weight_grad(x, dy, parts, taps, source, outer, weights, columns, width, share):
        shared = shared_floats(total)
        table = cuda.shared.array(table_size, types.int64)
        thread = cuda.threadIdx.x
        lane, warp = thread % LANES, thread // LANES
        groups, channels, all_taps = weights
        pitch, run, out_pitch = source[3], source[4], outer[4]
        rows = all_taps * run
        m0, n0, group = start_of(cuda.blockIdx.x, size_m, size_n, rows, columns)
        begin = cuda.blockIdx.y * share
        end = min(begin + share, outer[0] * outer[1] * outer[2] * outer[3])
        steps = (end - begin + depth - 1) // depth
        x_column, x_first = thread % x_line * x_each, thread // x_line
        dy_column, dy_first = thread % dy_line * dy_each, thread // dy_line
        m, n = m0 + x_column, n0 + dy_column
        there = min(m, rows - x_each)  # a copy that takes nothing must be from a multiple of x_each, too
        row = (there, 0, 0, 0) if dense else row_of(there, taps, source)
        x_start, dy_start = group * run + row[0], group * channels + n + (begin + dy_first) * out_pitch
        x_move, dy_move = depth * pitch, depth * out_pitch
        if dense:
            x_start += (begin + x_first) * pitch
        else:
            for k in range(thread, stages * depth, TENSOR_THREADS):
                enter_pixel(table, k, begin + k, end, source, outer)
            cuda.syncthreads()
        g, t = lane // 4, lane % 4
        x_place = warp // WARPS * warp_m + 4 * g + (0 if exact else t * pitch_m)
        dy_place = dy_strip + warp % WARPS * warp_n + (8 * t if exact else 4 * g + t * pitch_n)
        sums = zeros(down_tuple, across_tuple)
        for step in range(1 - stages, steps):
            if step >= 0:
                wait(under_way)
                cuda.syncthreads()
            ahead = step + stages - 1
            slot = remainder(ahead, stages)
            left, x_now, dy_now = end - begin - ahead * depth, x_start + ahead * x_move, dy_start + ahead * dy_move
            for i in range(x_copies):
                k = x_first + i * x_step
                if dense:
                    inside, place = (m < rows) & (k < left), x_now + i * x_step * pitch
                else:
                    inside = (m < rows) & meets(table, slot * depth + k, row, source)
                    place = x_start + pixel_of(table, slot * depth + k) * pitch
                if x_each == 4:
                    copy_4(shared, slot * stage + k * pitch_m + x_column, x, place, inside)
                else:
                    copy_1(shared, slot * stage + k * pitch_m + x_column, x, place, inside)
            for i in range(dy_copies):
                k = dy_first + i * dy_step
                inside, place = (n < channels) & (k < left), dy_now + i * dy_step * out_pitch
                if dy_each == 4:
                    copy_4(shared, slot * stage + dy_strip + k * pitch_n + dy_column, dy, place, inside)
                else:
                    copy_1(shared, slot * stage + dy_strip + k * pitch_n + dy_column, dy, place, inside)
            commit()
            if step >= 0:
                slot = remainder(step, stages)
                if not dense and warp == remainder(step, WARPS * WARPS) and lane < depth:
                    # Nobody reads this line of the table before the next barrier.
                    enter_pixel(table, slot * depth + lane, begin + (step + stages) * depth + lane, end, source, outer)
                for k in range(0, depth, 4 if exact else 8):
                    x_at = slot * stage + k * pitch_m + x_place
                    dy_at = slot * stage + k * pitch_n + dy_place
                    if exact:
                        a = joined(each(_exact_rows, downs, (shared, x_at, pitch_m)))
                        sums = multiply_exactly(sums, a, each(_exact_columns, lines, (shared, dy_at, fours)))
                    else:
                        fragments = joined(each(_rows, downs, (shared, x_at, pitch_m)))
                        sums = multiply(sums, fragments, joined(each(_columns, rights, (shared, dy_at, pitch_n))))
        wait(())
        base = (cuda.blockIdx.y * groups + group) * columns * rows
        m, n = m0 + warp // WARPS * warp_m + 4 * g, n0 + warp % WARPS * warp_n + 8 * t
        each(_write, in_groups(sums, quads), (parts, base, m, n, quads_across, rows, columns, width))

    form = f"{size_m}_{size_n}_{x_each}_{dy_each}{'_dense' * dense}{'_exact' * exact}"
    weight_grad.__name__ = weight_grad.__qualname__ = f"weight_grad_{form}"
    return kernel(weight_grad)
