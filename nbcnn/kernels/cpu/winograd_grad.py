"""The gradient of a 3x3 convolution by its weights, by Winograd's minimal filtering.

A tile of m by m output gradients is a filter that slides over n by n samples of the input and leaves 3 by 3 results,
the tile's share of the gradient: F(3, m), with the same n = m + 2 points, and the same factors of the input, as the
forward F(m, 3). For each plane the factors of the input times those of the gradient, summed over the tiles, is a matrix
product; the n * n sums become 3 * 3 results at the very end of a block of tiles.

Layouts: factors of the input (group of channels, plane, tile, channel in the group), factors of the gradient (panel,
plane, tile, lane), both with a few elements between planes.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import simd, tile
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.tiling import PANEL_VECS, SHORT_ROWS
from nbcnn.kernels.cpu.winograd import locate_square
from nbcnn.kernels.cpu.winograd_tiles import FILTER, gradient_filter, gradient_results, input_planes

__all__ = ["winograd_weight_grad"]


@serial
def _factors(form, task, x, dy, zeros, v, d, scratch, slot, origin, end, source, target, pads, grid, schedule):
    """A few tiles of the input and of the output's gradient to their factors."""
    _block, few, plane_v, plane_d = schedule
    size = len(form)
    step = size + 1 - FILTER
    planes = size * size
    lanes = simd.lanes(x)
    group, width = max(lanes, SHORT_ROWS), PANEL_VECS * lanes
    first = origin + task * few
    for number in range(first, min(first + few, end)):
        locate_square(scratch, slot, number, size, step, source, pads, grid, simd.distance(x, zeros))
        for c in range(0, (source[3] + group - 1) // group * group, lanes):
            place = c // group * planes * plane_v + (number - origin) * group + c % group
            input_planes(form, x, scratch, slot, c, source[3] - c, v, place, plane_v)
        locate_square(scratch, slot, number, step, step, target, (0, 0), grid, simd.distance(dy, zeros))
        for o in range(0, (target[3] + width - 1) // width * width, lanes):
            place = o // width * planes * plane_d + (number - origin) * width + o % width
            gradient_filter(form, dy, scratch, slot, o, target[3] - o, d, place, plane_d)


@serial
def _correlate(acc, row, v, at, group, d, from_d, count, spill, spot):
    """Sum over `count` tiles of neighbouring channels of v times a panel of d; the sums go to `spill`."""
    width = len(row) * simd.lanes(v)
    starts = tile.pitched(acc, row, at, 1)
    offset = 0
    for _ in range(count):
        acc = tile.fma(acc, v, starts, offset, tile.row(row, d, from_d))
        offset += group
        from_d += width
    tile.spill(acc, spill, spot)


@serial
def _gradients(form, task, v, d, dw, spill, spot, count, fresh, source, schedule):
    """A few neighbouring input channels by a panel of output channels."""
    _block, _few, plane_v, plane_d = schedule
    channels = source[3]
    lanes = simd.lanes(v)
    group, width = max(lanes, SHORT_ROWS), PANEL_VECS * lanes
    shares = (channels + SHORT_ROWS - 1) // SHORT_ROWS
    panel, first = task // shares, task % shares * SHORT_ROWS
    planes, taps = len(form) * len(form), FILTER * FILTER
    acc, row = tile.zeros(v, SHORT_ROWS, PANEL_VECS), tile.zeros(v, 1, PANEL_VECS)
    for p in range(planes):
        at = (first // group * planes + p) * plane_v + first % group
        place = spot + p * SHORT_ROWS * width
        _correlate(acc, row, v, at, group, d, (panel * planes + p) * plane_d, count, spill, place)
    found = spot + planes * SHORT_ROWS * width
    for r in range(min(SHORT_ROWS, channels - first)):
        for part in range(0, width, lanes):
            gradient_results(form, spill, spot + r * width + part, SHORT_ROWS * width, spill, found, lanes)
            for tap in range(taps):
                place = ((panel * taps + tap) * channels + first + r) * width + part
                value = simd.load(spill, found + tap * lanes)
                if not fresh:
                    value = simd.add(value, simd.load(dw, place))
                simd.store(dw, place, value)


@kernel
def winograd_weight_grad(form, x, dy, dw, zeros, v, d, scratch, spill, images, source, target, pads, grid, schedule):
    """dw[tap, c, o] = sum over pixels of x[pixel moved by the tap, c] * dy[pixel, o], in panels as the weights are.

    form, source, target, pads, grid: as in winograd_conv's forward call. zeros: as many as x or dy has channels. v, d:
    the factors of a block of tiles. scratch (int64, 64), spill: a slot for each thread. schedule: (tiles in a block,
    tiles in a task of transforms, elements from plane to plane of v, and of d).
    """
    block, few, _plane_v, _plane_d = schedule
    width = PANEL_VECS * simd.lanes(x)
    planes = len(form) * len(form)
    slot = planes * SHORT_ROWS * width + FILTER * FILTER * simd.lanes(x)
    panels = (target[3] + width - 1) // width
    shares = (source[3] + SHORT_ROWS - 1) // SHORT_ROWS
    tiles = images * grid[0] * grid[1]
    for origin in range(0, tiles, block):
        end = min(origin + block, tiles)
        for index in prange((end - origin + few - 1) // few):
            _factors(
                form, np.int64(index), x, dy, zeros, v, d, scratch, get_thread_id() * 64, origin, end, source, target,
                pads, grid, schedule,
            )  # fmt: skip
        for other in prange(panels * shares):
            _gradients(
                form, np.int64(other), v, d, dw, spill, get_thread_id() * slot, end - origin, origin == 0, source,
                schedule,
            )  # fmt: skip
