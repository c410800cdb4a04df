"""The gradient by the weights of batch_lanes.py's convolution: a lane for each picture, added up at the very end.

A tile is a few neighbours in a line of the kernel by a few output channels, each a register of pictures. It walks a
line of the output; in between its registers lie in `sums`.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import lane_tile, simd, tile
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.lane_tiling import FEW_COLUMNS, GRAD_ROWS, MORE_COLUMNS, PICTURE_VECS

__all__ = ["batch_weight_grad"]

LINES = 4
"""Lines of the output between two visits to `sums`."""


@serial
def _part(acc, across_tile, part, x, dy, sums, slot, partial, source, outer, kernel_shape, strides, parts):
    """The sum over a share of the output's lines, in `partial`."""
    in_d, in_h, in_w, channels = source
    blocks, out_d, out_h, out_w, out_channels = outer
    kernel_d, kernel_h, kernel_w, width = kernel_shape
    many = len(across_tile)
    lanes = simd.lanes(x)
    pictures = PICTURE_VECS * lanes
    pixel, out_pixel = channels * pictures, out_channels * pictures
    down_tile = tile.zeros(x, GRAD_ROWS, 1)
    run = kernel_w * channels
    across = (out_channels + many - 1) // many
    tiles = (run + GRAD_ROWS - 1) // GRAD_ROWS * across
    all_tiles = kernel_d * kernel_h * tiles
    size = len(acc) * lanes
    for i in range(slot, slot + all_tiles * size):
        sums[i] = 0
    lines = blocks * out_d * out_h
    end = lines * (part + 1) // parts
    for begin in range(lines * part // parts, end, LINES):
        for item in range(all_tiles):
            rows = lane_tile.neighbours(down_tile, item % tiles // across * GRAD_ROWS, run - 1, pictures)
            columns = lane_tile.neighbours(across_tile, item % across * many, out_channels - 1, pictures)
            acc = lane_tile.fill(acc, sums, slot + item * size)
            for line in range(begin, min(begin + LINES, end)):
                at_d = line // out_h % out_d * strides[0] + item // tiles // kernel_h
                at_h = line % out_h * strides[1] + item // tiles % kernel_h
                x_at = ((line // out_h // out_d * in_d + at_d) * in_h + at_h) * in_w * pixel
                dy_at = line * out_w * out_pixel
                for _ in range(out_w):
                    for v in range(PICTURE_VECS):
                        acc = lane_tile.fma_pairs(acc, x, rows, x_at + v * lanes, dy, columns, dy_at + v * lanes)
                    x_at += strides[2] * pixel
                    dy_at += out_pixel
            tile.spill(acc, sums, slot + item * size)
    weights = (out_channels + width - 1) // width * kernel_d * kernel_h * run * width
    place = part * weights
    for i in range(place, place + weights):
        partial[i] = 0
    for item in range(all_tiles):
        for r in range(GRAD_ROWS * many):
            i = item % tiles // across * GRAD_ROWS + r // many
            o = item % across * many + r % many
            if i < run and o < out_channels:
                row = (o // width * kernel_d * kernel_h + item // tiles) * run + i
                partial[place + row * width + o % width] = simd.sum_lanes(
                    simd.load(sums, slot + item * size + r * lanes)
                )


@serial
def _total(partial, dw, parts):
    for i in range(dw.size):
        dw[i] = partial[i]
    for part in range(1, parts):
        share = partial[part * dw.size : (part + 1) * dw.size]
        for i in range(dw.size):
            dw[i] += share[i]


@kernel
def batch_weight_grad(x, dy, dw, sums, partial, source, outer, kernel_shape, strides, schedule):
    """dw = sum over pictures and positions of x[position moved by the tap, c] * dy[position, o], in weight panels.

    x (block, d, h, w, channel, picture), with its padding; dy likewise. source: (d, h, w, channels) of x; outer:
    (blocks, d, h, w, channels) of dy. kernel_shape: (d, h, w, lanes of a weight panel). strides: (d, h, w). sums: a
    slot for each thread, a register for each element of dw in whole tiles. partial: dw for each part. schedule: (parts,
    into which the output's lines are split whatever the number of threads; elements of a slot; columns of a tile,
    FEW_COLUMNS or MORE_COLUMNS).
    """
    parts, slot, columns = schedule
    for index in prange(parts):
        part = np.int64(index)
        spot = get_thread_id() * slot
        if columns == FEW_COLUMNS:
            few, few_row = tile.zeros(x, GRAD_ROWS, FEW_COLUMNS), tile.zeros(x, 1, FEW_COLUMNS)
            _part(few, few_row, part, x, dy, sums, spot, partial, source, outer, kernel_shape, strides, parts)
        else:
            more, more_row = tile.zeros(x, GRAD_ROWS, MORE_COLUMNS), tile.zeros(x, 1, MORE_COLUMNS)
            _part(more, more_row, part, x, dy, sums, spot, partial, source, outer, kernel_shape, strides, parts)
    _total(partial, dw, parts)
