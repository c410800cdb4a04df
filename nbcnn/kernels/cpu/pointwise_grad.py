"""The gradient by the weights of a 1x1 convolution of stride 1, or of Gemm: a product whose long side is the pixels.

A tile is GRAD_ROWS input channels by a panel of output channels. Blocks of pixels are walked one after the other, and
each adds to all tiles; meanwhile the next block is asked for.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import simd, tile
from nbcnn.kernels.cpu.jit import inlined, kernel, serial
from nbcnn.kernels.cpu.tiling import GRAD_ROWS, PANEL_VECS

__all__ = ["pointwise_weight_grad"]


@inlined
def _correlate(acc, row, x, starts, depth, dy, at, pitch, count, ahead, steps, dw, dw_ahead):
    """tile[c, o] += sum over `count` pixels of x[pixel, c] * dy[pixel, o].

    ahead: where the next block lies in x and dy; steps: how far to go on there with every pixel. dw_ahead: the tile of
    dw that comes next, which is asked for a bit at a time.
    """
    x_ahead, dy_ahead = ahead
    x_step, dy_step = steps
    x_at = 0
    for _ in range(count):
        simd.prefetch(x, x_ahead)
        simd.prefetch(dy, dy_ahead)
        simd.prefetch(dw, dw_ahead)
        x_ahead += x_step
        dy_ahead += dy_step
        dw_ahead += simd.lanes(x) // 4
        acc = tile.fma(acc, x, starts, x_at, tile.row(row, dy, at))
        x_at += depth
        at += pitch
    return acc


@serial
def _pack_panel(row, dy, packed, spot, first, count, channels, column):
    """Copy the last panel of `count` pixels of dy, filled up with zeros."""
    lanes = simd.lanes(dy)
    width = len(row) * lanes
    for i in range(count):
        for v in range(0, width, lanes):
            start = (first + i) * channels + column + v
            simd.store(packed, spot + i * width + v, simd.load_first(dy, start, channels - column - v))


@serial
def _add_rows(row, spill, spot, dw, place, first, is_new):
    """Add rows of a spilled tile, from `first` on, to dw at `place`; set them there, if it is new."""
    lanes = simd.lanes(dw)
    for i in range(first * len(row), GRAD_ROWS * len(row)):
        value = simd.load(spill, spot + i * lanes)
        if not is_new:
            value = simd.add(value, simd.load(dw, place + i * lanes))
        simd.store(dw, place + i * lanes, value)


@serial
def _grad_block(x, dy, dw, scratch, slot, first_item, last_item, pixel, count, dims, by_channel):
    """A share of the tiles over one block of pixels."""
    acc, row = tile.zeros(x, GRAD_ROWS, PANEL_VECS), tile.zeros(x, 1, PANEL_VECS)
    _rows, depth, channels = dims
    lanes = simd.lanes(x)
    width = len(row) * lanes
    panels, tiles = (channels + width - 1) // width, (depth + GRAD_ROWS - 1) // GRAD_ROWS
    low, high = x.dtype.type(-np.inf), x.dtype.type(np.inf)
    packed, packed_panel = slot + GRAD_ROWS * width, -1
    for item in range(first_item, last_item):
        panel, number = (item % panels, item // panels) if by_channel else (item // tiles, item % tiles)
        # The last tile begins early enough to be whole, and adds only the rows that are its own.
        channel = min(number * GRAD_ROWS, depth - GRAD_ROWS)
        own = number * GRAD_ROWS - channel
        column = panel * width
        at, pitch = pixel * channels + column, channels
        if column + width > channels:
            if packed_panel != panel:
                _pack_panel(row, dy, scratch, packed, pixel, count, channels, column)
                packed_panel = panel
            at, pitch = simd.distance(dy, scratch) + packed, width
        # Each line of the next block is asked for once: x beside the first panel, dy beside the first tiles.
        x_at, dy_at = pixel * depth + channel, pixel * channels + column
        x_step = depth if panel == 0 or item < first_item + panels else 0
        dy_step = channels if number < 2 or item < first_item + 2 else 0
        x_ahead = x_at + (count * depth if x_step > 0 else 0)
        dy_ahead = dy_at + (count * channels + number % 2 * lanes if dy_step > 0 else 0)
        place = (panel * depth + channel) * width
        starts = tile.pitched(acc, row, x_at, 1)
        found = _correlate(
            acc, row, x, starts, depth, dy, at, pitch, count, (x_ahead, dy_ahead), (x_step, dy_step), dw,
            place + GRAD_ROWS * width,
        )  # fmt: skip
        places = tile.pitched(acc, row, place, width)
        if own > 0:
            tile.spill(found, scratch, slot)
            _add_rows(row, scratch, slot, dw, place, own, pixel == 0)
        elif pixel > 0:
            tile.finish_onto(found, row, dw, places, 0, row, dw, low, high)
        else:
            tile.finish(found, row, dw, places, 0, row, low, high)


@serial
def _grad_share(x, dy, dw, scratch, slot, part, dims, schedule):
    rows, depth, channels = dims
    block, parts, by_channel, _slot = schedule
    width = PANEL_VECS * simd.lanes(x)
    total = ((channels + width - 1) // width) * ((depth + GRAD_ROWS - 1) // GRAD_ROWS)
    first, last = total * part // parts, total * (part + 1) // parts
    for pixel in range(0, rows, block):
        _grad_block(x, dy, dw, scratch, slot, first, last, pixel, min(block, rows - pixel), dims, by_channel)


@kernel
def pointwise_weight_grad(x, dy, dw, scratch, dims, schedule):
    """dw[c, o] = sum over rows of x[row, c] * dy[row, o], packed as the weights are.

    x (rows, depth), dy (rows, channels): flat; depth is at least GRAD_ROWS. dims: (rows, depth, channels).
    schedule: (rows in a block; shares of dw that run in parallel; 1 if shares are parts of the depth, 0 if of the
    channels; elements of scratch for a thread: a tile, and a panel of a block). Each element of dw is summed by one
    thread, in an order that does not depend on the shares.
    """
    for index in prange(schedule[1]):
        part = np.int64(index)
        _grad_share(x, dy, dw, scratch, get_thread_id() * schedule[3], part, dims, schedule)
