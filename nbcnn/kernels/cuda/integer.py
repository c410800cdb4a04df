"""Convolutions and products of 8-bit integers, as matrix products over gathered pixels (implicit GEMM) on the tensor
cores.

Bytes of x may be unsigned or signed, and are multiplied as they are. Zero points are no part of the loop; see
nbcnn/kernels/cpu/integer.py. Packed weights are words of four neighbours of a run: (group, part, tap, word of the run,
padded channel).

A block computes a tile of pixels by channels of one group. It takes so many words of the depth at a time, which are
copied into shared memory while earlier ones are multiplied: 16 bytes at once where all runs are made of such.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nbcnn.kernels.cuda._cuda import BLOCK, SIMULATED, Kernel, cuda, device, kernel, launch, spread
from nbcnn.kernels.cuda.bytes import QUAD, set_word
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.integer_finish import finish
from nbcnn.kernels.cuda.integer_tile import any_word, blank, commit, copy_async, multiply, spill, wait
from nbcnn.kernels.cuda.memory import WIDTH, load

__all__ = ["integer_gather", "pack_integers", "pad_integers", "part_of"]

WARP = 32


class Tile(NamedTuple):
    """What a block computes: warps down and across, and a warp's products of 16 pixels by 8 channels. step: words of
    the depth between two barriers. stages: steps that are on their way or being multiplied.
    """

    warps_down: int
    warps_across: int
    down: int
    across: int
    step: int
    stages: int

    @property
    def threads(self) -> int:
        return WARP * self.warps_down * self.warps_across

    @property
    def rows(self) -> int:
        return 16 * self.warps_down * self.down

    @property
    def columns(self) -> int:
        return 8 * self.warps_across * self.across


LARGE = Tile(1, 1, 2, 2, 16, 3) if SIMULATED else Tile(4, 2, 2, 4, 16, 3)
SMALL = Tile(1, 1, 1, 2, 8, 4) if SIMULATED else Tile(2, 2, 1, 2, 32, 4)
"""For few pixels or channels: each block waits less often for memory."""
BESIDE = -(1 << 30)
"""A move that meets no pixel."""
REGISTERS = 128
"""Of a thread, so that two blocks of large tiles fit a multiprocessor."""
FILLED = 2 if SIMULATED else 132
"""Blocks that keep a GPU busy: where large tiles make fewer, small ones are taken."""


@device
def part_of(value, number):
    """The signed byte that is this part of a whole number."""
    for _ in range(number):
        value -= min(max(value, -128), 127)
    return min(max(value, -128), 127)


@kernel
def _pack(w, zero, out, sums, dims, order, parts, padded):
    _groups, channels, taps, inner, depth = dims
    by_group, by_channel, by_tap, by_inner, by_depth = order
    totals = cuda.shared.array(BLOCK, np.int64)
    own, group, channel = cuda.threadIdx.x, cuda.blockIdx.x // padded, cuda.blockIdx.x % padded
    run = inner * depth
    quads = (run + QUAD - 1) // QUAD
    base = group * by_group + channel * by_channel
    shift = np.int64(0)
    if zero.size > 0 and channel < channels:
        shift = np.int64(zero[group * channels + channel if zero.size > 1 else 0])
    total = np.int64(0)
    for i in range(own, taps * quads, BLOCK):
        tap, quad = i // quads, i % quads
        for part in range(parts):
            bits = 0
            for k in range(QUAD):
                place = QUAD * quad + k
                if place < run and channel < channels:
                    at = base + tap * by_tap + place // depth * by_inner + place % depth * by_depth
                    value = np.int64(w[at]) - shift
                    total += value if part == 0 else 0
                    bits |= (part_of(value, part) & 255) << 8 * k
            row = ((group * parts + part) * taps + tap) * quads + quad
            set_word(out, (row * padded + channel) * QUAD, bits)
    totals[own] = total
    cuda.syncthreads()
    if own == 0:
        for i in range(1, BLOCK):
            total += totals[i]
        sums[cuda.blockIdx.x] = total


def pack_integers(w, zero, out, sums, dims, order, parts):
    """out = words of w - zero, in so many parts; sums (int32) = their sum for each padded output channel.

    zero: none, one, or one for each output channel. dims: (groups, output channels a group, taps, inner, depth); order:
    their strides in w.
    """
    padded = sums.size // dims[0]
    launch(_pack, sums.size, BLOCK, w, zero, out, sums, dims, order, parts, padded)


@kernel
def _pad(x, y, edge, count, size, begins, wide, flip, planes):
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w = wide
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        c, pixel = remainder(i, channels), divide(i, channels)
        w, line = remainder(pixel, out_w) - begins[2], divide(pixel, out_w)
        h, plane = remainder(line, out_h) - begins[1], divide(line, out_h)
        d, image = remainder(plane, out_d) - begins[0], divide(plane, out_d)
        if 0 <= d < in_d and 0 <= h < in_h and 0 <= w < in_w:
            place = (d * in_h + h) * in_w + w
            pixels = in_d * in_h * in_w
            at = (image * channels + c) * pixels + place if planes else (image * pixels + place) * channels + c
            y[i] = y.dtype.type(np.int64(x[at]) ^ flip)
        else:
            y[i] = y.dtype.type(np.int64(edge[0]))


def pad_integers(x, y, edge, size, begins, wide, flip, planes):
    """y (n, *wide, c), bytes = x at offset `begins` (not negative), edge[0] around it.

    size: (n, d, h, w, c), the sizes of x, which lies in this order or, if `planes`, as (n, c, d, h, w).
    flip: 128 where signed bytes become unsigned ones; else 0.
    """
    count = size[0] * wide[0] * wide[1] * wide[2] * size[4]
    spread(_pad, count, x, y, edge, count, size, begins, wide, flip, planes)


@device
def _locate(pixel, grid, source, target):
    """A pixel of the grid: where it starts in x, its d, h, w there, and where it starts in y."""
    _n, grid_d, grid_h, grid_w = grid
    in_d, in_h, in_w, pitch, _run, step_d, step_h, step_w = source
    out_d, out_h, out_w, out_pitch, at_d, at_h, at_w, jump_d, jump_h, jump_w = target
    w, line = remainder(pixel, grid_w), divide(pixel, grid_w)
    h, plane = remainder(line, grid_h), divide(line, grid_h)
    d, image = remainder(plane, grid_d), divide(plane, grid_d)
    row = (image * out_d + at_d + d * jump_d) * out_h + at_h + h * jump_h
    place = (row * out_w + at_w + w * jump_w) * out_pitch
    d, h, w = d * step_d, h * step_h, w * step_w
    return ((image * in_d + d) * in_h + h) * in_w * pitch + w * pitch, d, h, w, place


@device
def _meets(d, h, w, source):
    in_d, in_h, in_w = source[0], source[1], source[2]
    return 0 <= d < in_d and 0 <= h < in_h and 0 <= w < in_w


@device
def _copy_weights(words, at, w, taps, first, group, column, total, quads, padded, threads, pitch, across, step):
    """The weights of words first, ... of the depth, for 4 * across channels from `column` on."""
    for i in range(cuda.threadIdx.x, step * across, threads):
        row, left = i // across, i % across * 4
        depth, start = first + row, 0
        full = depth < total and column + left < padded
        if full:
            tap = divide(depth, quads)
            number = taps[4 * tap + 3] * quads + depth - tap * quads
            start = ((group * total + number) * padded + column + left) * QUAD
        copy_async(words, at + row * pitch + left, w, start, full)


@device
def _copy_pixels(
    words, at, x, edge, taps, first, starts, places, source, total, quads, threads, rows, pitch, vector, step
):  # fmt: skip
    """The pixels' words first, ... of the depth, so many at once."""
    own, in_a_row = cuda.threadIdx.x, step // vector
    column = own % in_a_row * vector
    depth = first + column
    move, tap_d, tap_h, tap_w = 0, BESIDE, 0, 0
    if depth < total:
        tap = divide(depth, quads)
        tap_d, tap_h, tap_w = taps[4 * tap], taps[4 * tap + 1], taps[4 * tap + 2]
        move = ((tap_d * source[1] + tap_h) * source[2] + tap_w) * source[3] + (depth - tap * quads) * QUAD
    for row in range(own // in_a_row, rows, threads // in_a_row):
        d, h, w = places[3 * row] + tap_d, places[3 * row + 1] + tap_h, places[3 * row + 2] + tap_w
        meets, start, spot = _meets(d, h, w, source), starts[row] + move, at + row * pitch + column
        if vector == 1:
            words[spot] = any_word(x, start) if meets else any_word(edge, 0)
        elif meets:
            copy_async(words, spot, x, start, True)
        else:
            copy_async(words, spot, edge, 0, True)


def _make(tile: Tile, vector: int) -> Kernel:
    """The kernel for tiles of this shape, and copies of so many words. What it closes over are integers, so that the
    disk cache knows it again.
    """
    warps_across, across, depth_step, stages = tile.warps_across, tile.across, tile.step, tile.stages
    threads, rows, columns = tile.threads, tile.rows, tile.columns
    tall, wide = 16 * tile.down, 8 * across
    # So 8 pixels by 4 words, and 4 words by 8 channels, lie in different banks.
    pitch, w_pitch = depth_step + 4, columns + 8
    w_first = rows * pitch
    stage = w_first + depth_step * w_pitch
    size, three = max(stages * stage, rows * w_pitch), 3 * rows
    count, quads_across, behind = 4 * tile.down * across, columns // 4, stages - 2

    def gather(
        x, w, offsets, edge, scales, y, taps, grid, source, target, weights, quads, padded, tiles, zero, low, high
    ):  # fmt: skip
        # Copies of 16 bytes must begin on such, which the simulator knows nothing of.
        words = cuda.shared.array(size, np.int32) if SIMULATED else cuda.shared.array(size, np.int32, 16)
        starts = cuda.shared.array(rows, np.int64)
        outs = cuda.shared.array(rows, np.int64)
        places = cuda.shared.array(three, np.int32)
        _groups, channels, x_apart, y_apart = weights
        own, pixels = cuda.threadIdx.x, grid[0] * grid[1] * grid[2] * grid[3]
        # Blocks that follow each other read the same pixels.
        tile_row, column = divide(cuda.blockIdx.x, tiles), remainder(cuda.blockIdx.x, tiles) * columns
        tile_rows = divide(pixels + rows - 1, rows)
        group, first = divide(tile_row, tile_rows), remainder(tile_row, tile_rows) * rows
        for row in range(own, rows, threads):
            start, d, h, w_, out = _locate(min(first + row, pixels - 1), grid, source, target)
            starts[row], outs[row] = start + group * x_apart, out + group * y_apart
            places[3 * row], places[3 * row + 1], places[3 * row + 2] = d, h, w_
        cuda.syncthreads()
        total = taps.size // 4 * quads
        steps = (total + depth_step - 1) // depth_step
        warp, lane = own // WARP, own % WARP
        a_first = warp // warps_across * tall * pitch
        b_first = w_first + warp % warps_across * wide
        sums = blank(count)
        for step in range(1 - stages, steps):
            if step >= 0:
                wait(behind)
                cuda.syncthreads()
            # What is overwritten now was multiplied before the barrier.
            ahead = step + stages - 1
            if ahead < steps:
                at, depth = ahead % stages * stage, ahead * depth_step
                _copy_pixels(
                    words, at, x, edge, taps, depth, starts, places, source, total, quads, threads, rows, pitch,
                    vector, depth_step,
                )  # fmt: skip
                _copy_weights(
                    words, at + w_first, w, taps, depth, group, column, total, quads, padded, threads, w_pitch,
                    quads_across, depth_step,
                )  # fmt: skip
            commit()
            if step >= 0:
                at = step % stages * stage
                for k in range(0, depth_step, 8):
                    a, b = at + a_first + k, at + b_first + k * w_pitch
                    sums = multiply(sums, x, words, a, pitch, b, w_pitch, lane, across)
        wait(0)
        cuda.syncthreads()
        # Sums go through shared memory, so that neighbouring threads write neighbouring channels.
        corner = warp // warps_across * tall * w_pitch + warp % warps_across * wide
        spill(sums, words, corner, w_pitch, lane, across)
        cuda.syncthreads()
        for i in range(own, rows * quads_across, threads):
            row, left = i // quads_across, i % quads_across * WIDTH
            channel, spot = column + left, row * w_pitch + left
            if first + row < pixels and channel < channels:
                place = group * padded + channel
                a, b, c, d = load(offsets, place)
                found = (
                    np.int32(words[spot] + a),
                    np.int32(words[spot + 1] + b),
                    np.int32(words[spot + 2] + c),
                    np.int32(words[spot + 3] + d),
                )
                finish(y, outs[row] + channel, channels - channel, found, load(scales, place), zero, low, high)

    gather.__name__ = f"gather_{rows}x{columns}_{vector}"
    return kernel(gather, registers=REGISTERS)


GATHER = {(tile, vector): _make(tile, vector) for tile in (LARGE, SMALL) for vector in (1, 4)}


def integer_gather(
    x, w, offsets, edge, scales, y, taps, scratch, spill, grid, source, target, weights, schedule, zero, low, high
):
    """Sums over taps of x[pixel moved by the tap, :] * w[tap] + offset, as they are or quantized again.

    x: bytes, channels last, readable up to a multiple of four channels. w: packed weights. offsets (int32), scales
    (float32): one for each padded channel. edge: bytes that are read where a tap falls off the picture.
    y: int32, the sums; bytes, round(held between low and high(sum * scale)) + zero; or float32, without rounding.
    taps: int64, four each: its move (d, h, w) in the source, and its number in w. grid, source, target: as conv_gather.
    weights: (groups, output channels a group, elements of x from group to group, elements of y). scratch, spill and
    schedule are not used.
    """
    groups, channels, x_apart, _y_apart = weights
    pixels, run, pitch = grid[0] * grid[1] * grid[2] * grid[3], source[4], source[3]
    vector = 1 if any(n % 16 for n in (run, pitch, x_apart)) else 4

    def tiles(shape: Tile) -> tuple[int, int]:
        return -(-pixels // shape.rows), -(-channels // shape.columns)

    rows, columns = tiles(LARGE)
    tile = LARGE if rows * columns * groups >= FILLED else SMALL
    rows, columns = tiles(tile)
    launch(
        GATHER[tile, vector],
        rows * columns * groups,
        tile.threads,
        *(x, w, offsets, edge, scales, y, taps, grid, source, target, weights),
        *(-(-run // QUAD), offsets.size // groups, columns, zero, np.float32(low), np.float32(high)),
    )
