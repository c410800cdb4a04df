"""The gradient by the weights on tensor cores, of float32 (in TF32, or in full precision without them) and of 16 bits:
conv_weight_grad's device code.

A block of 2 by 2 warps makes a tile of the gradient over a part of the pixels. Strips of x and dy, pixel after pixel,
come to shared memory by asynchronous copies, `stages` of them under way. They are counted in words of 32 bits: one
float32, or two neighbouring channels. What a lane takes of them: grad_fragments.py.
"""

from __future__ import annotations

from functools import cache

from nbcnn.kernels.cuda._cuda import Kernel, cuda, kernel, types
from nbcnn.kernels.cuda.grad_fragments import (
    GROUP,
    exact_columns,
    exact_rows,
    tf32_columns,
    tf32_rows,
    two_columns,
    write_pairs,
    write_quads,
)
from nbcnn.kernels.cuda.grad_places import enter_pixel, meets, pixel_of, row_of, start_of
from nbcnn.kernels.cuda.index import remainder
from nbcnn.kernels.cuda.mma import (
    commit,
    copy_1,
    copy_2,
    copy_4,
    load_transposed,
    multiply,
    multiply_bfloat16,
    multiply_exactly,
    multiply_float16,
    shared_floats,
    wait,
    zeros,
)
from nbcnn.kernels.cuda.unroll import each, joined
from nbcnn.kernels.cuda.unroll import groups as in_groups

__all__ = ["TENSOR_THREADS", "tensor_code", "tile_size"]

TENSOR_THREADS = 128
WARPS = 2
"""Warps of a block along each side."""
LANES = 32
FRAGMENT_ROWS, FRAGMENT_COLUMNS = 16, 8
GAP, HALVES_GAP = 8, 4
"""Words that the line of a pixel is longer than a multiple of 32."""
HALVES = ("float16", "bfloat16")
SHARED_BYTES = 44 << 10
"""For strips; what a block may have without asking is 48 KiB, and the table of pixels takes some."""


def tile_size(rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of a tile, whose warps make so many fragments down and across."""
    return WARPS * rows * FRAGMENT_ROWS, WARPS * columns * FRAGMENT_COLUMNS


@cache
def tensor_code(down: int, across: int, x_each: int, dy_each: int, dense: bool, form: str) -> Kernel:
    """The kernel for warps of down by across fragments, a multiple of 2 by one of 4. x_each, dy_each: words that a copy
    takes, 4, 2 or 1. dense: a single tap that does not move, in strides of 1: every pixel of dy lies on the same pixel
    of x. form: "tf32", "exact" (full precision), or what both are kept in, "float16" or "bfloat16".

    Its grid is (tiles, parts); `share` is pixels of a part. Of 16 bits, x and dy are arrays of words, and source, outer
    and weights count them; columns and width count elements, as parts does.
    """
    exact, halves, bfloat16 = form == "exact", form in HALVES, form == "bfloat16"
    per_word, gap, chunk = (2, HALVES_GAP, 16) if halves else (1, GAP, 4 if exact else 8)
    size_m, size_n = tile_size(down, across)
    line_m, line_n = size_m // per_word, size_n // per_word
    pitch_m, pitch_n = line_m + gap, line_n + gap
    depth = per_word * (8 if size_m * size_n > 128 * 64 else 16)
    dy_strip, stage = depth * pitch_m, depth * (pitch_m + pitch_n)
    stages = min(5, SHARED_BYTES // (4 * stage))
    total, table_size = stages * stage, 2 * stages * depth
    warp_m, warp_n = size_m // WARPS, size_n // WARPS
    downs, rights, quads_across = tuple(range(0, warp_m, GROUP)), tuple(range(0, warp_n, GROUP)), across // 4
    quads = (0,) * (down * quads_across)
    fours, lines = tuple(place + 4 * k for place in rights for k in (0, 1)), tuple(k * pitch_n for k in range(4))
    x_blocks, dy_blocks = tuple(range(0, warp_m // 2, 8)), tuple(range(0, warp_n // 2, 8))
    down_tuple, across_tuple, under_way = (0,) * down, (0,) * across, (0,) * (stages - 2)
    x_line, dy_line = line_m // x_each, line_n // dy_each
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
        m0, n0, group = start_of(cuda.blockIdx.x, line_m, line_n, rows, columns // per_word)
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
        if halves:  # of two blocks of 8 channels side by side, above two more, a lane's line
            from_pixel, from_word = lane % 8 + lane // 16 * 8, lane // 8 % 2 * 4
            x_place, dy_place = from_pixel * pitch_m + from_word, from_pixel * pitch_n + from_word
        elif exact:
            x_place, dy_place = 4 * g, 8 * t
        else:
            x_place, dy_place = 4 * g + t * pitch_m, 4 * g + t * pitch_n
        x_place += warp // WARPS * (warp_m // per_word)
        dy_place += warp % WARPS * (warp_n // per_word) + dy_strip
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
                elif x_each == 2:
                    copy_2(shared, slot * stage + k * pitch_m + x_column, x, place, inside)
                else:
                    copy_1(shared, slot * stage + k * pitch_m + x_column, x, place, inside)
            for i in range(dy_copies):
                k = dy_first + i * dy_step
                inside, place = (n < channels) & (k < left), dy_now + i * dy_step * out_pitch
                if dy_each == 4:
                    copy_4(shared, slot * stage + dy_strip + k * pitch_n + dy_column, dy, place, inside)
                elif dy_each == 2:
                    copy_2(shared, slot * stage + dy_strip + k * pitch_n + dy_column, dy, place, inside)
                else:
                    copy_1(shared, slot * stage + dy_strip + k * pitch_n + dy_column, dy, place, inside)
            commit()
            if step >= 0:
                slot = remainder(step, stages)
                if not dense and warp == remainder(step, WARPS * WARPS) and lane < depth:
                    # Nobody reads this line of the table before the next barrier.
                    enter_pixel(table, slot * depth + lane, begin + (step + stages) * depth + lane, end, source, outer)
                for k in range(0, depth, chunk):
                    x_at = slot * stage + k * pitch_m + x_place
                    dy_at = slot * stage + k * pitch_n + dy_place
                    if halves:
                        a = load_transposed(shared, x_at, x_blocks)
                        b = joined(each(two_columns, load_transposed(shared, dy_at, dy_blocks), 0))
                        sums = multiply_bfloat16(sums, a, b) if bfloat16 else multiply_float16(sums, a, b)
                    elif exact:
                        a = joined(each(exact_rows, downs, (shared, x_at, pitch_m)))
                        sums = multiply_exactly(sums, a, each(exact_columns, lines, (shared, dy_at, fours)))
                    else:
                        a = joined(each(tf32_rows, downs, (shared, x_at, pitch_m)))
                        sums = multiply(sums, a, joined(each(tf32_columns, rights, (shared, dy_at, pitch_n))))
        wait(())
        rows = rows * per_word
        base = (cuda.blockIdx.y * groups + group) * columns * rows
        m, n = m0 * per_word + warp // WARPS * warp_m, n0 * per_word + warp % WARPS * warp_n
        if halves:
            each(write_pairs, sums, (parts, base, m + g, n + 2 * t, across, rows, columns, width))
        else:
            place = (parts, base, m + 4 * g, n + 8 * t, quads_across, rows, columns, width)
            each(write_quads, in_groups(sums, quads), place)

    name = f"weight_grad_{form}_{size_m}_{size_n}_{x_each}_{dy_each}{'_dense' * dense}"
    weight_grad.__name__ = weight_grad.__qualname__ = name
    return kernel(weight_grad)
