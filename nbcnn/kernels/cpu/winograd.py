"""Convolution by Winograd's minimal filtering F(m, 3), in two dimensions: 3x3 taps, stride 1, one group.

The output is cut into tiles of m by m. Each tile needs n by n samples of the input, n = m + 2, which become n * n
factors (a plane each); for each plane, the factors of all tiles times those of the filters is a matrix product; and n *
n products become m * m results (Lavin and Gray, arXiv:1509.09308). Direct convolution multiplies 9 m^2 times where this
does (m + 2)^2 times: 2.25 times as often for m = 2, 4 times for m = 4. What it costs is accuracy, which tests hold to
bounds, and memory traffic, which is kept low by working on blocks of tiles whose factors stay in the cache.

Layouts: factors of the input (plane, tile, channel), with some elements between planes and between tiles so that they
do not share their places in the caches; factors of the filters (panel, plane, input channel, lane), panels as in
tiling.py.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import simd, tile
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.tiling import PANEL_VECS, ROWS, SHORT_ROWS
from nbcnn.kernels.cpu.winograd_tiles import FILTER, filter_planes, input_planes, results

__all__ = ["locate", "winograd_conv", "winograd_weights"]


@serial
def _weights_panel(form, task, w, u, depth, width, flip):
    """One panel: (tap, input channel, lane) to (plane, input channel, lane)."""
    lanes = simd.lanes(w)
    taps, planes = FILTER * FILTER, len(form) * len(form)
    step = depth * width
    first = task * taps * step
    if flip:
        first, step = first + (taps - 1) * step, -step
    place = task * planes * depth * width
    for i in range(0, depth * width, lanes):
        filter_planes(form, w, first + i, step, u, place + i, depth * width)


@kernel
def winograd_weights(form, w, u, panels, depth, flip):
    """Filters in panels (panel, tap, input channel, lane) to factors (panel, plane, input channel, lane).

    panels: how many, each PANEL_VECS registers wide. flip: 1 to turn the filters round, for the gradient by the input.
    """
    width = PANEL_VECS * simd.lanes(w)
    for index in prange(panels):
        _weights_panel(form, np.int64(index), w, u, depth, width, flip)


@serial
def locate(form, scratch, at, number, source, pads, grid, outside):
    """Where each sample of an input tile begins in x; `outside` for those that fall off the picture."""
    size = len(form)
    locate_square(scratch, at, number, size, size + 1 - FILTER, source, pads, grid, outside)


@serial
def locate_square(scratch, at, number, size, step, source, pads, grid, outside):
    """As locate, for squares of `size` pixels that begin `step` pixels apart; pads: where the first one begins."""
    height, width, pitch, _channels = source
    left = number % grid[1] * step - pads[1]
    top = number // grid[1] % grid[0] * step - pads[0]
    image = number // grid[1] // grid[0]
    for i in range(size):
        line = ((image * height + top + i) * width + left) * pitch
        inside = (top + i >= 0) & (top + i < height)
        for j in range(size):
            meets = inside & (left + j >= 0) & (left + j < width)
            simd.put(scratch, at + i * size + j, line + j * pitch if meets else outside)


@serial
def _factors(form, task, x, zeros, v, scratch, slot, origin, end, source, pads, grid, schedule):
    """A few tiles of the input to their factors."""
    _block, _chunk, few, pitch, plane, _slot = schedule
    outside = simd.distance(x, zeros)
    channels = source[3]
    lanes = simd.lanes(x)
    first = origin + task * few
    for number in range(first, min(first + few, end)):
        locate(form, scratch, slot, number, source, pads, grid, outside)
        place = (number - origin) * pitch
        for c in range(0, channels, lanes):
            input_planes(form, x, scratch, slot, c, channels - c, v, place + c, plane)


@serial
def _product(acc, row, v, at, pitch, u, weight, depth, spill, spot):
    """Rows of v, `pitch` apart, times a panel of u; the sums go to `spill`, row by row."""
    width = len(row) * simd.lanes(v)
    starts = tile.pitched(acc, row, at, pitch)
    for c in range(depth):
        acc = tile.fma(acc, v, starts, c, tile.row(row, u, weight))
        weight += width
    tile.spill(acc, spill, spot)


@serial
def _products(acc, short, row, v, at, pitch, u, weight, depth, spill, spot, count):
    """As many rows as `count`, in register tiles: tall ones, and short ones at the end where these waste less."""
    width = len(row) * simd.lanes(v)
    done = 0
    while done < count:
        left = count - done
        if left <= SHORT_ROWS or left == 2 * SHORT_ROWS:
            _product(short, row, v, at + done * pitch, pitch, u, weight, depth, spill, spot + done * width)
            done += SHORT_ROWS
        else:
            _product(acc, row, v, at + done * pitch, pitch, u, weight, depth, spill, spot + done * width)
            done += ROWS


@serial
def _store(form, found, spot, bias, residual, y, image, top, left, column, columns, target, low, high):
    """Write one register of channels of a tile's results, as far as they lie in the picture."""
    height, width, pitch, _channels = target
    step = len(form) + 1 - FILTER
    lanes = simd.lanes(y)
    shift = simd.zeros(y)
    if bias.size > 0:
        shift = simd.load_first(bias, column, columns)
    for i in range(min(step, height - top)):
        for j in range(min(step, width - left)):
            place = ((image * height + top + i) * width + left + j) * pitch + column
            value = simd.add(simd.load(found, spot + (i * step + j) * lanes), shift)
            if residual.size > 0:
                value = simd.add(value, simd.load_first(residual, place, columns))
            simd.store_first(y, place, simd.clamp(value, low, high), columns)


@serial
def _results(form, task, v, u, bias, residual, y, spill, spot, origin, end, source, target, grid, schedule, low, high):
    """A chunk of tiles by a panel of filters: products, and back to pixels."""
    _block, chunk, _few, pitch, plane, _slot = schedule
    depth, channels = source[3], target[3]
    lanes = simd.lanes(v)
    width = PANEL_VECS * lanes
    planes = len(form) * len(form)
    step = len(form) + 1 - FILTER
    chunks = (end - origin + chunk - 1) // chunk
    first, panel = origin + task % chunks * chunk, task // chunks
    count = min(chunk, end - first)
    apart = (chunk + ROWS) * width
    acc, short = tile.zeros(v, ROWS, PANEL_VECS), tile.zeros(v, SHORT_ROWS, PANEL_VECS)
    row = tile.zeros(v, 1, PANEL_VECS)
    for p in range(planes):
        at, weight = p * plane + (first - origin) * pitch, (panel * planes + p) * depth * width
        _products(acc, short, row, v, at, pitch, u, weight, depth, spill, spot + p * apart, count)
    found = spot + planes * apart
    for i in range(count):
        number = first + i
        left = number % grid[1] * step
        top = number // grid[1] % grid[0] * step
        image = number // grid[1] // grid[0]
        for part in range(0, min(width, channels - panel * width), lanes):
            column = panel * width + part
            results(form, spill, spot + i * width + part, apart, spill, found, lanes)
            _store(
                form, spill, found, bias, residual, y, image, top, left, column, channels - column, target, low, high
            )


@kernel
def winograd_conv(
    form, x, u, bias, residual, y, zeros, v, scratch, spill, images, source, target, pads, grid, schedule, low, high
):
    """y = clamp(bias + residual + x convolved with filters of 3x3 taps, low, high).

    form: a tuple of n = m + 2 integers, for F(m, 3). x, y, residual: activations, channels last; bias (channels); bias
    and residual may be empty, and the residual may be y itself. u: factors of the filters. zeros: as many as the input
    has channels. v: the factors of a block of tiles. scratch (int64, n * n), spill: a slot for each thread.
    source, target: (height, width, elements from pixel to pixel, channels) of x and y. pads: (top, left). grid: tiles
    of a picture, (down, across). schedule: (tiles in a block, tiles in a task of products, tiles in a task of
    transforms, elements of v from tile to tile, from plane to plane, elements of a slot of spill).
    """
    block, chunk, few, _pitch, _plane, slot = schedule
    width = PANEL_VECS * simd.lanes(x)
    panels = (target[3] + width - 1) // width
    tiles = images * grid[0] * grid[1]
    for origin in range(0, tiles, block):
        end = min(origin + block, tiles)
        for index in prange((end - origin + few - 1) // few):
            _factors(
                form, np.int64(index), x, zeros, v, scratch, get_thread_id() * 64, origin, end, source, pads, grid,
                schedule,
            )  # fmt: skip
        for other in prange((end - origin + chunk - 1) // chunk * panels):
            _results(
                form, np.int64(other), v, u, bias, residual, y, spill, get_thread_id() * slot, origin, end, source,
                target, grid, schedule, low, high,
            )  # fmt: skip
