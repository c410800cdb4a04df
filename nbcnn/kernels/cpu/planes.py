"""Convolution of a few planes, such as a grey picture, into few channels: a lane for each pixel of a line.

Where output channels would fill a few lanes only, and there are too few pictures for batch_lanes.py, neighbouring
pixels of a plane are one register, and each weight meets all of them. The picture is read as the caller gave it, a
plane after the other; results are written channels last. All output channels lie in one panel of weights.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import lane_tile, simd, tile
from nbcnn.kernels.cpu.compare import maximum
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.lane_tiling import FEW_ROWS, MORE_ROWS, PICTURE_VECS

__all__ = ["planes_conv"]


@serial
def _line(nothing, row, square, task, x, w, bias, y, spill, spot, source, target, kernel_shape, pool, low, high):
    """One line of one picture's output."""
    planes, in_h, in_w = source
    out_h, out_w, channels = target
    kernel_h, kernel_w, width = kernel_shape
    image, h = task // out_h, task % out_h
    lanes = simd.lanes(y)
    pitch = len(row) * lanes
    rows = len(nothing) // len(row)
    at_once = pitch // pool[1]
    turned = spot + rows * pitch
    here = min(rows, channels)
    for tiled in range(0, channels, rows):
        o = max(min(tiled, channels - rows), 0)  # the last tile overlaps its neighbour where it would not be full
        shift = simd.zeros(y)
        if bias.size > 0:
            shift = simd.load_first(bias, o, here)
        for q in range(0, out_w, at_once):
            for i in range(pool[0]):
                acc = nothing
                for c in range(planes):
                    for kh in range(kernel_h):
                        at = ((image * planes + c) * in_h + h * pool[0] + i + kh) * in_w + q * pool[1]
                        w_at = (kh * kernel_w * planes + c) * width + o
                        if at + kernel_w + pitch <= x.size:  # what lies behind the line is of no harm
                            for kw in range(kernel_w):
                                line = tile.row(row, x, at + kw)
                                acc = lane_tile.fma_each(acc, w, w_at + kw * planes * width, line)
                        else:
                            for kw in range(kernel_w):
                                line = tile.row_first(row, x, at + kw, x.size - at - kw)
                                acc = lane_tile.fma_each(acc, w, w_at + kw * planes * width, line)
                if i > 0:
                    acc = lane_tile.maximum(lane_tile.fill(acc, spill, spot), acc)
                tile.spill(acc, spill, spot)
            # Pixels by channels: each pixel becomes a register of channels.
            for v in range(len(row)):
                square = lane_tile.load_rows(square, spill, spot + v * lanes, pitch, here, lanes)
                tile.spill(lane_tile.transpose(square), spill, turned + v * lanes * lanes)
            for p in range(min(at_once, out_w - q)):
                pixel = turned + p * pool[1] * lanes
                value = simd.load(spill, pixel)
                for j in range(1, pool[1]):
                    value = maximum(value, simd.load(spill, pixel + j * lanes))
                value = simd.clamp(simd.add(value, shift), low, high)
                simd.store_first(y, ((image * out_h + h) * out_w + q + p) * channels + o, value, here)


@kernel
def planes_conv(x, w, bias, y, spill, source, target, kernel_shape, pool, tile_rows, low, high):
    """y = clamp(bias + convolution of x with w, the largest of each window of `pool`, low, high); stride 1, no padding.

    x (n, planes, h, w), y (n, h, w, channels), both flat; bias (channels), or empty. w: packed weights of one group.
    spill: for each thread, a tile and one of pixels by lanes. source: (planes, h, w) of x; target: (h, w, channels) of
    y. kernel_shape: (h, w, lanes of a weight panel). pool: (h, w), windows without overlap. tile_rows: FEW_ROWS or
    MORE_ROWS.
    """
    lanes = simd.lanes(y)
    for index in prange(y.size // (target[1] * target[2])):
        task = np.int64(index)
        spot = get_thread_id() * (MORE_ROWS + lanes) * PICTURE_VECS * lanes
        row, square = tile.zeros(y, 1, PICTURE_VECS), lane_tile.square(y)
        if tile_rows == FEW_ROWS:
            few = tile.zeros(y, FEW_ROWS, PICTURE_VECS)
            _line(few, row, square, task, x, w, bias, y, spill, spot, source, target, kernel_shape, pool, low, high)
        else:
            more = tile.zeros(y, MORE_ROWS, PICTURE_VECS)
            _line(more, row, square, task, x, w, bias, y, spill, spot, source, target, kernel_shape, pool, low, high)
