"""Depthwise convolution: every channel by a filter of its own.

A thread has four neighbouring channels (or one, where their number is no multiple of four) of a strip of neighbouring
pixels: threads side by side read whole lines of memory, and a pixel that was read serves all taps of the strip that
meet it.

Taps come in rows: the taps of a dense filter that differ in their move along w alone, `width` of them. Where a filter
has gaps, each tap is a row of its own.
"""

from __future__ import annotations

from functools import cache
from math import prod

from nbcnn.kernels.cpu.tiling import lanes, panel_width
from nbcnn.kernels.cuda import memory
from nbcnn.kernels.cuda._cuda import BLOCK, Kernel, cuda, device, kernel, launch, types
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.partial import add_parts

__all__ = ["depthwise_gather", "depthwise_weight_grad"]

STRIP = 4
"""Pixels of a thread."""
WARP = 32
"""Threads side by side in channels, at the most."""
TABLE = 64
"""Taps whose moves lie in shared memory at a time; a dense filter has no more."""
REGISTERS = 128
"""Of a thread that sums weights: two blocks fit a multiprocessor then."""
DENSE = ((3, 1), (3, 2), (5, 1), (5, 2), (7, 1))
"""Taps of a row, and pixels of x between neighbouring pixels of y, for which there is code."""


@device
def _read(v, row, x, place, inside, channels):
    """v[row] = x[place], ..., or zeros."""
    if not inside:
        for lane in range(channels):
            v[row, lane] = 0
    elif channels == 4:
        v[row, 0], v[row, 1], v[row, 2], v[row, 3] = memory.load(x, place)
    else:
        v[row, 0] = x[place]


@device
def _enter(where, moves, taps, start, slot, box, width):
    """Enter tap `start + slot` into a table: its place in a panel of w, and the move of its row."""
    at_d, at_h, at_w, _size_d, size_h, size_w, height, by_lanes = box
    pixel = divide(taps[2 * (start + slot)], by_lanes)
    line = divide(pixel, size_w)
    d, h, w = divide(line, size_h), remainder(line, size_h), remainder(pixel, size_w)
    row = slot if width == 1 else d * height + h
    where[slot if width == 1 else row * width + w] = taps[2 * (start + slot) + 1]
    if width == 1:
        moves[row, 0], moves[row, 1], moves[row, 2] = at_d + d, at_h + h, at_w + w
    elif w == 0:
        moves[row, 0], moves[row, 1], moves[row, 2] = at_d + d, at_h + h, at_w


@device
def _finish(acc, j, v, y, place, residual, low, high, channels):
    """y[place], ... = acc[j] + residual, clamped; the comparisons let NaN through."""
    _read(v, 0, residual, place, residual.size > 0, channels)
    for lane in range(channels):
        value = acc[j, lane] + v[0, lane]
        v[0, lane] = low if value < low else high if value > high else value
    if channels == 4:
        memory.store(y, place, v[0, 0], v[0, 1], v[0, 2], v[0, 3])
    else:
        y[place] = v[0, 0]


@cache
def _gather(width: int, step: int, channels: int) -> Kernel:
    """Device code for rows of `width` taps, neighbouring pixels `step` apart in x, and so many channels of a thread.
    Rows of one tap go with any step.
    """
    reach = (STRIP - 1) * step + width
    strip, span, single = (STRIP, channels), (reach, channels), (1, channels)

    def gather(x, w, bias, residual, y, taps, count, grid, source, target, weights, box, low, high):
        where = cuda.shared.array(TABLE, types.int32)
        moves = cuda.shared.array((TABLE, 3), types.int32)
        acc = cuda.local.array(strip, y.dtype)
        seen = cuda.local.array(span, y.dtype)
        factor = cuda.local.array(single, y.dtype)
        _n, grid_d, grid_h, grid_w = grid
        in_d, in_h, in_w, pitch, _run, step_d, step_h, step_w = source
        out_d, out_h, out_w, out_pitch, at_d, at_h, at_w, jump_d, jump_h, jump_w = target
        all_channels, all_taps, panel = weights
        index = cuda.grid(1)
        active = index < count
        groups, strips = divide(all_channels, channels), divide(grid_w + STRIP - 1, STRIP)
        c, rest = remainder(index, groups) * channels, divide(index, groups)
        w0, rest = remainder(rest, strips) * STRIP, divide(rest, strips)
        h, rest = remainder(rest, grid_h), divide(rest, grid_h)
        d, image = remainder(rest, grid_d), divide(rest, grid_d)
        weight = divide(c, panel) * all_taps * panel + remainder(c, panel)
        for j in range(STRIP):
            _read(acc, j, bias, c, active and bias.size > 0, channels)
        for start in range(0, taps.size // 2, TABLE):
            here = min(TABLE, taps.size // 2 - start)
            cuda.syncthreads()
            for t in range(cuda.threadIdx.x, here, cuda.blockDim.x):
                _enter(where, moves, taps, start, t, box, width)
            cuda.syncthreads()
            for row in range(here // width if active else 0):
                from_d, from_h = d * step_d + moves[row, 0], h * step_h + moves[row, 1]
                from_w = w0 * step_w + moves[row, 2]
                if 0 <= from_d < in_d and 0 <= from_h < in_h:
                    line = ((image * in_d + from_d) * in_h + from_h) * in_w
                    for p in range(reach):
                        at = from_w + (p * step_w if width == 1 else p)
                        _read(seen, p, x, (line + at) * pitch + c, 0 <= at < in_w, channels)
                    for k in range(width):
                        _read(factor, 0, w, weight + where[row * width + k], True, channels)
                        for j in range(STRIP):
                            for lane in range(channels):
                                acc[j, lane] += seen[j * step + k, lane] * factor[0, lane]
        line = ((image * out_d + at_d + d * jump_d) * out_h + at_h + h * jump_h) * out_w + at_w
        for j in range(STRIP):
            if active and w0 + j < grid_w:
                place = (line + (w0 + j) * jump_w) * out_pitch + c
                _finish(acc, j, factor, y, place, residual, low, high, channels)

    gather.__name__ = gather.__qualname__ = f"gather_{width}_{step}_{channels}"
    return kernel(gather)


def _row_of(taps: int, extent: tuple[int, int, int], step: int) -> tuple[int, int]:
    """(taps of a row, step) for which there is code, of a filter with so many taps and this extent."""
    dense = taps == prod(extent) <= TABLE and (extent[2], step) in DENSE
    return (extent[2], step) if dense else (1, 1)


def depthwise_gather(
    x, w, bias, residual, y, taps, box, grid, source, target, weights, first, size, schedule, low, high
):
    """y[pixel, c] = clamp(bias[c] + residual[pixel, c] + sum over taps of x[pixel moved by the tap, c] * w[tap, c],
    low, high). box is not used.
    """
    lines, itemsize, channels = schedule[0], y.dtype.itemsize, weights[1]
    extent = size[0], size[1] - (lines - 1) * source[6], size[2] - (grid[3] - 1) * source[7]
    few = 4 if channels % 4 == 0 and source[3] % 4 == 0 and target[3] % 4 == 0 else 1
    count = grid[0] * grid[1] * grid[2] * -(-grid[3] // STRIP) * (channels // few)
    code = _gather(*_row_of(taps.size // 2, extent, source[7]), few)
    launch(
        code, -(-count // BLOCK), BLOCK, x, w, bias, residual, y, taps, count, grid, source, target,
        (channels, weights[2], panel_width(channels, itemsize)), (*first, *size, extent[1], lanes(itemsize)), low, high,
    )  # fmt: skip


@cache
def _weight_grad(rows: int, width: int, step: int, channels: int) -> Kernel:
    """Device code for so many rows of taps at once; the rest as for _gather."""
    reach, taps_at_once = (STRIP - 1) * step + width, rows * width
    sums, strip, span, table = (taps_at_once, channels), (STRIP, channels), (reach, channels), (rows, 3)
    places = BLOCK * channels

    def weight_grad(x, dy, parts, taps, items, source, outer, weights):
        shared = cuda.shared.array(places, dy.dtype)
        moves = cuda.local.array(table, types.int64)
        acc = cuda.local.array(sums, dy.dtype)
        given = cuda.local.array(strip, dy.dtype)
        seen = cuda.local.array(span, dy.dtype)
        in_d, in_h, in_w, pitch, _run, step_d, step_h, step_w = source
        n, out_d, out_h, out_w, out_pitch = outer
        all_channels, padded, panel, all_taps = weights
        strips = divide(out_w + STRIP - 1, STRIP)
        tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
        c = (cuda.blockIdx.z * cuda.blockDim.x + tx) * channels
        first_tap = cuda.blockIdx.y * taps_at_once
        for row in range(rows):
            for axis in range(3):
                moves[row, axis] = taps[4 * (first_tap + row * width) + axis]
        for q in range(taps_at_once):
            for lane in range(channels):
                acc[q, lane] = 0
        there = c < all_channels
        last = min((cuda.blockIdx.x + 1) * items, n * out_d * out_h * strips)
        for item in range(cuda.blockIdx.x * items + ty, last if there else 0, cuda.blockDim.y):
            line, w0 = divide(item, strips), remainder(item, strips) * STRIP
            h, rest = remainder(line, out_h), divide(line, out_h)
            d, image = remainder(rest, out_d), divide(rest, out_d)
            for j in range(STRIP):
                _read(given, j, dy, (line * out_w + w0 + j) * out_pitch + c, w0 + j < out_w, channels)
            for row in range(rows):
                from_d, from_h = d * step_d + moves[row, 0], h * step_h + moves[row, 1]
                from_w = w0 * step_w + moves[row, 2]
                if 0 <= from_d < in_d and 0 <= from_h < in_h:
                    start = ((image * in_d + from_d) * in_h + from_h) * in_w
                    for p in range(reach):
                        at = from_w + (p * step_w if width == 1 else p)
                        _read(seen, p, x, (start + at) * pitch + c, 0 <= at < in_w, channels)
                    for k in range(width):
                        for j in range(STRIP):
                            for lane in range(channels):
                                acc[row * width + k, lane] += seen[j * step + k, lane] * given[j, lane]
        for q in range(taps_at_once):
            for lane in range(channels):
                shared[(ty * channels + lane) * cuda.blockDim.x + tx] = acc[q, lane]
            cuda.syncthreads()
            if ty < channels and c + ty < padded:
                total = shared[ty * cuda.blockDim.x + tx]
                for other in range(1, cuda.blockDim.y):
                    total += shared[(other * channels + ty) * cuda.blockDim.x + tx]
                place = divide(c + ty, panel) * all_taps + taps[4 * (first_tap + q) + 3]
                parts[cuda.blockIdx.x * padded * all_taps + place * panel + remainder(c + ty, panel)] = total
            cuda.syncthreads()

    weight_grad.__name__ = weight_grad.__qualname__ = f"weight_grad_{rows}_{width}_{step}_{channels}"
    return kernel(weight_grad, registers=REGISTERS)


def depthwise_weight_grad(x, dy, dw, taps, partials, source, outer, channels, row):
    """dw[tap, c] = sum over pixels of x[pixel moved by the tap, c] * dy[pixel, c]. partials: room for as many times dw
    as there are blocks that share the pixels; with less than twice that, none do.
    """
    all_taps, panel = taps.size // 4, panel_width(channels, dw.dtype.itemsize)
    few = 4 if channels % 4 == 0 and source[3] % 4 == 0 and outer[4] % 4 == 0 else 1
    width, step = (row, source[7]) if (row, source[7]) in DENSE else (1, 1)
    rows = 3 if width == 3 and all_taps % 9 == 0 else 1
    padded = -(-channels // panel) * panel
    across = min(WARP if BLOCK >= 8 * WARP else BLOCK // 4, 1 << (-(-padded // few) - 1).bit_length())
    parts = max(1, partials.size // dw.size)
    items = -(-prod(outer[:3]) * -(-outer[3] // STRIP) // parts)
    blocks = parts, all_taps // (rows * width), -(-padded // (few * across))
    launch(
        _weight_grad(rows, width, step, few), blocks, (across, BLOCK // across), x, dy, partials if parts > 1 else dw,
        taps, items, source, outer, (channels, padded, panel, all_taps),
    )  # fmt: skip
    if parts > 1:
        add_parts(partials, dw, parts)
