"""The gradient by the weights on tensor cores, in TF32 with sums in float32: conv_weight_grad's device code.

A block of 2 by 2 warps makes a tile of the gradient over a part of the pixels. Strips of x and dy, pixel after pixel,
come to shared memory by asynchronous copies, `stages` of them under way. A strip's line is 8 elements longer than a
multiple of 32: of a fragment, the four pixels and the eight rows or columns that a warp reads lie in 32 banks. In the
end the warps leave their sums in shared memory, and all threads write them side by side.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from nbcnn.kernels.cuda._cuda import Kernel, cuda, kernel, types
from nbcnn.kernels.cuda.grad_places import enter_pixel, meets, place_of, row_of, start_of
from nbcnn.kernels.cuda.index import remainder
from nbcnn.kernels.cuda.mma import commit, copy_1, copy_4, multiply, shared_floats, tf32, wait, zeros
from nbcnn.kernels.cuda.unroll import each, inlined

__all__ = ["TENSOR_THREADS", "tensor_code", "tile_size"]

TENSOR_THREADS = 128
WARPS = 2
"""Warps of a block along each side."""
LANES = 32
FRAGMENT_ROWS, FRAGMENT_COLUMNS, FRAGMENT_DEPTH = 16, 8, 8
GAP = 8
SHARED_BYTES = 44 << 10
"""For strips; what a block may have without asking is 48 KiB, and the table of pixels takes some."""


def tile_size(rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of a tile, whose warps make so many fragments down and across."""
    return WARPS * rows * FRAGMENT_ROWS, WARPS * columns * FRAGMENT_COLUMNS


@inlined
def _get(strip, place):
    """strip[place] in TF32. The place is unsigned, so that Numba need not ask whether it counts from the end."""
    return tf32(strip[np.uint64(place)])


@inlined
def _rows(offset, number, args):
    """A lane's elements of a fragment of A: of x in four pixels by 16 rows."""
    strip, start, pitch = args
    place, later = start + offset, start + offset + 4 * pitch
    return _get(strip, place), _get(strip, place + 8), _get(strip, later), _get(strip, later + 8)


@inlined
def _columns(offset, number, args):
    """A lane's elements of a fragment of B: of dy in four pixels by 8 columns."""
    strip, start, pitch = args
    return _get(strip, start + offset), _get(strip, start + offset + 4 * pitch)


@inlined
def _leave(sums, number, args):
    """Store a lane's sums of a fragment in shared memory."""
    shared, start, pitch, across = args
    place = start + number // across * FRAGMENT_ROWS * pitch + number % across * FRAGMENT_COLUMNS
    shared[np.uint64(place)], shared[np.uint64(place + 1)] = sums[0], sums[1]
    shared[np.uint64(place + 8 * pitch)], shared[np.uint64(place + 8 * pitch + 1)] = sums[2], sums[3]


@cache
def tensor_code(down: int, across: int, x_each: int, dy_each: int, dense: bool) -> Kernel:
    """The kernel for warps of down by across fragments. x_each, dy_each: elements that a copy takes, 4 or 1.
    dense: a single tap that does not move, in strides of 1: every pixel of dy lies on the same pixel of x.

    Its grid is (tiles, parts); `share` is pixels of a part.
    """
    size_m, size_n = tile_size(down, across)
    pitch_m, pitch_n = size_m + GAP, size_n + GAP
    depth = 8 if size_m * size_n > 128 * 64 else 16
    dy_strip, stage = depth * pitch_m, depth * (pitch_m + pitch_n)
    stages = min(5, SHARED_BYTES // (4 * stage))
    total, table_shape = max(stages * stage, size_m // WARPS * pitch_n), (stages * depth, 4)
    warp_m, warp_n = size_m // WARPS, size_n // WARPS
    left = tuple(i * FRAGMENT_ROWS for i in range(down))
    right = tuple(j * FRAGMENT_COLUMNS for j in range(across))
    down_tuple, across_tuple, under_way = (0,) * down, (0,) * across, (0,) * (stages - 2)
    x_line, dy_line = size_m // x_each, size_n // dy_each
    x_step, dy_step = TENSOR_THREADS // x_line, TENSOR_THREADS // dy_line
    x_copies, dy_copies = max(1, depth // x_step), max(1, depth // dy_step)

    def weight_grad(x, dy, parts, taps, source, outer, weights, columns, width, share):
        shared = shared_floats(total)
        table = cuda.shared.array(table_shape, types.int32)
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
        row = (min(m, rows - 1), 0, 0, 0) if dense else row_of(min(m, rows - 1), taps, source)
        x_start, dy_start = group * run + row[0], group * channels + n
        if not dense:
            for k in range(thread, stages * depth, TENSOR_THREADS):
                enter_pixel(table, k, begin + k, end, source, outer)
            cuda.syncthreads()
        x_place = lane % 4 * pitch_m + warp // WARPS * warp_m + lane // 4
        dy_place = lane % 4 * pitch_n + warp % WARPS * warp_n + lane // 4
        sums = zeros(down_tuple, across_tuple)
        for step in range(1 - stages, steps):
            if step >= 0:
                wait(under_way)
                cuda.syncthreads()
            ahead = step + stages - 1
            slot = remainder(ahead, stages)
            for i in range(x_copies):
                k = x_first + i * x_step
                if dense:
                    pixel = begin + ahead * depth + k
                    inside, place = (m < rows) & (pixel < end), pixel * pitch + x_start
                else:
                    inside = (m < rows) & meets(table, slot * depth + k, row, source)
                    place = table[slot * depth + k, 0] * pitch + x_start
                if x_each == 4:
                    copy_4(shared, slot * stage + k * pitch_m + x_column, x, place, inside)
                else:
                    copy_1(shared, slot * stage + k * pitch_m + x_column, x, place, inside)
            for i in range(dy_copies):
                k = dy_first + i * dy_step
                pixel = begin + ahead * depth + k
                inside, place = (n < channels) & (pixel < end), pixel * out_pitch + dy_start
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
                for k in range(0, depth, FRAGMENT_DEPTH):
                    x_at = slot * stage + k * pitch_m + x_place
                    dy_at = slot * stage + dy_strip + k * pitch_n + dy_place
                    a = each(_rows, left, (shared, x_at, pitch_m))
                    sums = multiply(sums, a, each(_columns, right, (shared, dy_at, pitch_n)))
        wait(())
        for half in range(WARPS):
            cuda.syncthreads()
            if warp // WARPS == half:
                start = lane // 4 * pitch_n + warp % WARPS * warp_n + lane % 4 * 2
                each(_leave, sums, (shared, start, pitch_n, across))
            cuda.syncthreads()
            for number in range(thread, warp_m * size_n, TENSOR_THREADS):
                m, n = m0 + half * warp_m + number // size_n, n0 + number % size_n
                if m < rows and n < columns:
                    place = cuda.blockIdx.y * groups * columns * rows + place_of(m, n, group, rows, columns, width)
                    parts[place] = shared[number // size_n * pitch_n + number % size_n]

    weight_grad.__name__ = weight_grad.__qualname__ = f"tensor_grad_{size_m}_{size_n}_{x_each}_{dy_each}_{int(dense)}"
    return kernel(weight_grad)
