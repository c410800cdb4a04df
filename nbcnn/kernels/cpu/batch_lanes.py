"""Convolution of many pictures of few channels: a lane for each picture.

With 1 to 32 channels, registers of output channels are mostly empty, and pictures of a few dozen pixels have no long
rows either; but there are many of them. So a block of pictures lies innermost in memory, (block, d, h, w, channel,
picture), much like cuda-convnet's CHWN order: every lane is full whatever the number of channels, a tap is one weight
for all lanes, and no tap that falls off the picture is ever multiplied. Everything that treats channels alike, such as
pooling and activations, takes this for channels-last pictures of so many times more channels.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import lane_tile, simd, tile
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.lane_tiling import FEW_ROWS, MORE_ROWS, PICTURE_VECS

__all__ = ["batch_conv", "batch_layout"]


# --- pictures into lanes, and back ------------------------------------------------------------------------------------


@serial
def _convert(square, block, half, x, y, shape, into):
    """One register of pictures of one block, a square of elements at a time."""
    n, outer, inner, place_outer, place_inner = shape
    lanes = simd.lanes(x)
    first = (block * PICTURE_VECS + half) * lanes
    rows = min(n - first, lanes)
    for j in range(outer):
        at = (first * outer + j) * inner
        place = (block * outer * inner * PICTURE_VECS + half) * lanes + j * place_outer
        for i in range(0, inner, lanes):
            left = inner - i
            spot = place + i * place_inner
            if into:
                square = lane_tile.load_rows(square, x, at + i, outer * inner, rows, left)
                lane_tile.store_rows(lane_tile.transpose(square), y, spot, place_inner, left, lanes)
            else:
                square = lane_tile.load_rows(square, x, spot, place_inner, left, lanes)
                lane_tile.store_rows(lane_tile.transpose(square), y, at + i, outer * inner, rows, left)


@kernel
def batch_layout(x, y, shape, into):
    """into: y (block, place of j and i, picture) = x (picture, j, i), zeros where the last block is not full; else
    the inverse.

    shape: (pictures, j, i, elements of the blocked array from j to j, from i to i).
    """
    block = PICTURE_VECS * simd.lanes(x)
    for index in prange((shape[0] + block - 1) // block * PICTURE_VECS):
        task = np.int64(index)
        _convert(lane_tile.square(x), task // PICTURE_VECS, task % PICTURE_VECS, x, y, shape, into)


# --- convolution ------------------------------------------------------------------------------------------------------


@serial
def _line(
    nothing, row, block, line, x, w, bias, y, spill, spot, spans, source, conv, target, kernel_shape, steps, pool, low,
    high,
):  # fmt: skip
    """One line of the output. One function, because every function that a kernel rests on is compiled again in it."""
    in_d, in_h, in_w, channels = source
    out_d, out_h, out_w, out_channels = target
    kernel_d, kernel_h, kernel_w, width = kernel_shape
    lanes = simd.lanes(y)
    pictures = PICTURE_VECS * lanes
    rows = len(nothing) // len(row)
    pixel, tap = channels * pictures, channels * width
    joined = steps[2] == 1 and steps[5] == 1  # neighbours in x as in w: one run
    last = pool[0] * pool[1] * pool[2] - 1
    tiles = (width + rows - 1) // rows
    for item in range((out_channels + width - 1) // width * tiles):
        panel = item // tiles * width
        here = min(width, out_channels - panel)
        # The last tile of a panel overlaps its neighbour where it would not be full.
        first = max(min(item % tiles * rows, here - rows), 0)
        weight = panel * kernel_d * kernel_h * kernel_w * channels + first
        columns = min(rows, here) if item % tiles * rows < here else 0
        for w_out in range(out_w if columns > 0 else 0):
            acc = nothing
            for i in range(last + 1):
                at_d = 3 * (line // out_h * pool[0] + i // pool[2] // pool[1])
                at_h = 3 * (conv[0] + line % out_h * pool[1] + i // pool[2] % pool[1])
                at_w = 3 * (conv[0] + conv[1] + w_out * pool[2] + i % pool[2])
                at = (((block * in_d + spans[at_d]) * in_h + spans[at_h]) * in_w + spans[at_w]) * pixel
                start = ((spans[at_d + 1] * kernel_h + spans[at_h + 1]) * kernel_w + spans[at_w + 1]) * tap + weight
                runs, run = (1, spans[at_w + 2] * channels) if joined else (spans[at_w + 2], channels)
                acc = nothing
                for kd in range(spans[at_d + 2]):
                    for kh in range(spans[at_h + 2]):
                        x_at = at + (kd * steps[0] * in_h + kh * steps[1]) * in_w * pixel
                        w_at = start + (kd * steps[3] * kernel_h + kh * steps[4]) * kernel_w * tap
                        for _ in range(runs):
                            for c in range(run):
                                x_row = tile.row(row, x, x_at + c * pictures)
                                acc = lane_tile.fma_each(acc, w, w_at + c * width, x_row)
                            x_at += steps[2] * pixel
                            w_at += steps[5] * tap
                if i > 0:
                    acc = lane_tile.maximum(lane_tile.fill(acc, spill, spot), acc)
                if i < last:
                    tile.spill(acc, spill, spot)
            place = ((block * out_d * out_h + line) * out_w + w_out) * out_channels * pictures
            place += (panel + first) * pictures
            if bias.size > 0:
                acc = lane_tile.add_each(acc, row, bias, panel + first, columns)
            acc = lane_tile.clamp(acc, low, high)
            if columns == rows:
                tile.spill(acc, y, place)
            else:
                tile.spill(acc, spill, spot)
                for r in range(columns * PICTURE_VECS):
                    simd.store(y, place + r * lanes, simd.load(spill, spot + r * lanes))


@kernel
def batch_conv(x, w, bias, y, spill, spans, source, conv, target, kernel_shape, steps, pool, schedule, low, high):
    """y = clamp(bias + convolution of x with w, the largest of each window of `pool`, low, high).

    x, y: (block, d, h, w, channel, picture). w: packed weights of one group. bias (channels), or empty. spill: a tile
    for each thread. spans: int64; for each output position on the axes d, h, w in turn, the first position in x and the
    first in the kernel of its taps, and how many taps meet the picture. source: (d, h, w, channels) of x; conv: (d, h,
    w) of the convolution; target: (d, h, w, channels) of y, which is `conv` divided by `pool`, rounded down.
    kernel_shape: (d, h, w, lanes of a weight panel). steps: from tap to tap, (d, h, w) in x, then in the kernel.
    schedule: (blocks, lines in a task, rows of a tile: FEW_ROWS or MORE_ROWS).
    """
    blocks, lines, tile_rows = schedule
    all_lines = target[0] * target[1]
    parts = (all_lines + lines - 1) // lines
    for index in prange(blocks * parts):
        task = np.int64(index)
        first = task % parts * lines
        spot = get_thread_id() * MORE_ROWS * PICTURE_VECS * simd.lanes(y)
        for line in range(first, min(first + lines, all_lines)):
            if tile_rows == FEW_ROWS:
                _line(
                    tile.zeros(y, FEW_ROWS, PICTURE_VECS), tile.zeros(y, 1, PICTURE_VECS), task // parts, line, x, w,
                    bias, y, spill, spot, spans, source, conv, target, kernel_shape, steps, pool, low, high,
                )  # fmt: skip
            else:
                _line(
                    tile.zeros(y, MORE_ROWS, PICTURE_VECS), tile.zeros(y, 1, PICTURE_VECS), task // parts, line, x, w,
                    bias, y, spill, spot, spans, source, conv, target, kernel_shape, steps, pool, low, high,
                )  # fmt: skip
