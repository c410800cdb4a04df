"""Convolutions and products of 8-bit integers: gathered pixels of unsigned bytes times panels of signed ones.

As conv.py, with sums of 32 bits that stay in registers over the whole depth. Zero points are no part of the loop:
that of w is subtracted when w is packed, and what that of x adds to a sum is a number for each channel, the offset,
which the sums begin with. Where a tap falls off the picture it reads the edge, which is full of x's zero point.

Packed weights are (group, panel, part, tap, quad, lane, 4 bytes): a panel is as many output channels as a tile row
holds, a quad four neighbours of a run, and all are filled up with zeros. A weight that is no signed byte after its zero
point has been subtracted is the sum of up to three, its parts, which are multiplied as taps of their own.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import integer_tile, simd, tile
from nbcnn.kernels.cpu.conv import gather_rows, locate
from nbcnn.kernels.cpu.jit import inlined, kernel, serial
from nbcnn.kernels.cpu.tiling import PANEL_VECS, ROWS

__all__ = ["integer_gather", "pack_integers", "pad_integers", "part_of"]


@inlined
def _multiply(acc, row, x, table, at, block, taps, w, panel, quads):
    """A tile of sums, plus the products of gathered pixels and a weight panel."""
    width = len(row) * simd.lanes(w)
    for tap in range(taps.size // 4):
        starts = tile.starts(acc, row, table, at + tap * block)
        weight = panel + taps[4 * tap + 3] * quads * width
        for quad in range(quads):
            acc = integer_tile.multiply(acc, x, starts, 4 * quad, integer_tile.weights(row, w, weight))
            weight += width
    return acc


@serial
def _gather_panel(
    acc, row, x, w, offsets, scales, y, taps, scratch, spill, slot, spot, block, count, quads, panel, place, column,
    columns, zero, low, high,
):  # fmt: skip
    """All pixels of a block by one weight panel. place: of its channels among the padded ones; column: in y."""
    rows = len(acc) // len(row)
    lanes = simd.lanes(spill)
    first = integer_tile.begin(acc, row, offsets, place)
    factors = integer_tile.factors(row, scales, place)
    for i in range(0, count, rows):
        at = slot + 4 * block + i
        left = min(rows, count - i)
        found = _multiply(first, row, x, scratch, slot + 5 * block + i, block, taps, w, panel, quads)
        if (left < rows) | (columns < len(row) * lanes):
            integer_tile.spill(found, spill, spot)
            for r in range(left):
                start = scratch[at + r] + column
                for v in range(len(row)):
                    integer_tile.store_first(
                        spill, spot + (r * len(row) + v) * lanes, y, start + v * lanes, scales, place + v * lanes,
                        columns - v * lanes, zero, low, high,
                    )  # fmt: skip
        else:
            starts = tile.starts(acc, row, scratch, at)
            integer_tile.store(found, row, y, starts, column, factors, zero, low, high)


@serial
def _gather_panels(
    acc, row, x, w, offsets, scales, y, taps, scratch, spill, slot, spot, block, count, quads, group, panels, apart,
    channels, zero, low, high,
):  # fmt: skip
    """All pixels of a block by panels first..last of a group."""
    all_panels, first, last = panels
    width = len(row) * simd.lanes(spill)
    size = taps.size // 4 * quads * width * 4
    for panel in range(first, last):
        number = group * all_panels + panel
        _gather_panel(
            acc, row, x, w, offsets, scales, y, taps, scratch, spill, slot, spot, block, count, quads, number * size,
            number * width, group * apart + panel * width, min(width, channels - panel * width), zero, low, high,
        )  # fmt: skip


@serial
def _gather_task(
    task, x, w, offsets, edge, scales, y, taps, scratch, spill, thread, grid, source, target, weights, schedule, zero,
    low, high,
):  # fmt: skip
    """One block of pixels by one range of panels of one group."""
    groups, channels, x_apart, y_apart = weights
    block, panel_group, inside, size = schedule
    run = source[4]
    lanes = simd.lanes(spill)
    width = lanes if channels <= lanes else PANEL_VECS * lanes
    panels = (channels + width - 1) // width
    ranges = (panels + panel_group - 1) // panel_group
    pixels = grid[0] * grid[1] * grid[2] * grid[3]
    first = task % ranges * panel_group
    group = task // ranges % groups
    start = task // ranges // groups * block
    count = min(block, pixels - start)
    slot, spot = thread * size, thread * ROWS * PANEL_VECS * lanes
    padded = (count + ROWS - 1) // ROWS * ROWS
    locate(scratch, slot, block, start, count, grid, source, target, inside)
    for i in range(count):
        scratch[slot + i] += group * x_apart
    for tap in range(taps.size // 4):
        gather_rows(scratch, slot, block, count, padded, taps, tap, source, simd.distance(x, edge), inside)
    quads = (run + 3) // 4
    share = (panels, first, min(first + panel_group, panels))
    if channels <= lanes:
        acc, row = integer_tile.blank(spill, ROWS, 1), integer_tile.blank(spill, 1, 1)
        _gather_panels(
            acc, row, x, w, offsets, scales, y, taps, scratch, spill, slot, spot, block, count, quads, group, share,
            y_apart, channels, zero, low, high,
        )  # fmt: skip
    else:
        wide, wide_row = integer_tile.blank(spill, ROWS, PANEL_VECS), integer_tile.blank(spill, 1, PANEL_VECS)
        _gather_panels(
            wide, wide_row, x, w, offsets, scales, y, taps, scratch, spill, slot, spot, block, count, quads, group,
            share, y_apart, channels, zero, low, high,
        )  # fmt: skip


@kernel
def integer_gather(
    x, w, offsets, edge, scales, y, taps, scratch, spill, grid, source, target, weights, schedule, zero, low, high
):
    """Sums over taps of x[pixel moved by the tap, :] * w[tap] + offset, as they are or quantized again.

    x: unsigned bytes, channels last, readable up to a multiple of four channels. w: packed weights. offsets (int32),
    scales (float32): one for each padded channel. edge: bytes that are read where a tap falls off the picture.
    y: int32, the sums; bytes, round(held between low and high(sum * scale)) + zero; or float32, without rounding.
    taps: int64, four each: its move (d, h, w) in the source, and its number in w. scratch (int64), spill (int32): a
    slot for each thread. grid, source, target: as conv_gather. weights: (groups, output channels a group, elements of x
    from group to group, elements of y). schedule: (pixels in a block, panels in a task, 1 if no tap falls off, integers
    of scratch for a thread: a pixel of a block has 5, and one for each tap).
    """
    groups, channels, _x_apart, _y_apart = weights
    block, panel_group, _inside, _size = schedule
    lanes = simd.lanes(spill)
    width = lanes if channels <= lanes else PANEL_VECS * lanes
    ranges = ((channels + width - 1) // width + panel_group - 1) // panel_group
    blocks = (grid[0] * grid[1] * grid[2] * grid[3] + block - 1) // block
    for index in prange(blocks * groups * ranges):
        task = np.int64(index)
        _gather_task(
            task, x, w, offsets, edge, scales, y, taps, scratch, spill, get_thread_id(), grid, source, target, weights,
            schedule, np.int32(zero), np.float32(low), np.float32(high),
        )  # fmt: skip


@serial
def part_of(value, number):
    """The signed byte that is this part of a whole number."""
    for _ in range(number):
        value -= min(max(value, -128), 127)
    return min(max(value, -128), 127)


@serial
def _pack_panel(task, w, zero, out, sums, dims, order, width, panels, parts):
    _groups, channels, taps, inner, depth = dims
    by_group, by_channel, by_tap, by_inner, by_depth = order
    group, panel = task // panels, task % panels
    quads = (inner * depth + 3) // 4
    place = task * parts * taps * quads * width * 4
    for i in range(place, place + parts * taps * quads * width * 4):
        out[i] = 0
    for lane in range(width):
        sums[task * width + lane] = 0
    for lane in range(min(width, channels - panel * width)):
        channel = panel * width + lane
        base = group * by_group + channel * by_channel
        shift = np.int64(0)
        if zero.size > 0:
            shift = np.int64(zero[group * channels + channel if zero.size > 1 else 0])
        total = np.int64(0)
        for tap in range(taps):
            for i in range(inner):
                for c in range(depth):
                    value = np.int64(w[base + tap * by_tap + i * by_inner + c * by_depth]) - shift
                    total += value
                    run = i * depth + c
                    for part in range(parts):
                        quad = ((part * taps + tap) * quads + run // 4) * width + lane
                        out[place + quad * 4 + run % 4] = part_of(value, part)
        sums[task * width + lane] = total


@kernel
def pack_integers(w, zero, out, sums, dims, order, parts):
    """out = panels of w - zero, in so many parts; sums (int32) = their sum for each padded output channel.

    zero: none, one, or one for each output channel. dims: (groups, output channels a group, taps, inner, depth); order:
    their strides in w.
    """
    lanes = simd.lanes(sums)
    width = lanes if dims[1] <= lanes else PANEL_VECS * lanes
    panels = (dims[1] + width - 1) // width
    for index in prange(dims[0] * panels):
        task = np.int64(index)
        _pack_panel(task, w, zero, out, sums, dims, order, width, panels, parts)


@serial
def _pad_line(line, x, y, size, begins, wide, edge, flip, planes):
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w = wide
    h = line % out_h - begins[1]
    d = line // out_h % out_d - begins[0]
    image = line // out_h // out_d
    place = line * out_w * channels
    end = place + out_w * channels
    if d < 0 or d >= in_d or h < 0 or h >= in_h:
        y[place:end] = edge
        return
    first = place + begins[2] * channels
    count = min(in_w, out_w - begins[2]) * channels
    y[place:first] = edge
    y[first + count : end] = edge
    if not planes:
        source = ((image * in_d + d) * in_h + h) * in_w * channels
        _copy_bytes(x[source : source + count], y[first : first + count], flip)
        return
    plane, pixels = in_d * in_h * in_w, count // channels
    source = image * channels * plane + (d * in_h + h) * in_w
    if channels == 3:
        green, blue = source + plane, source + 2 * plane
        red = x[source : source + pixels]
        _three_planes(red, x[green : green + pixels], x[blue : blue + pixels], y[first : first + count], flip)
    else:
        for c in range(channels):
            start = source + c * plane
            _one_plane(x[start : start + pixels], y[first + c : first + count], channels, flip)


@serial
def _copy_bytes(x, y, flip):
    for i in range(y.size):
        y[i] = np.uint8(x[i]) ^ flip


@serial
def _three_planes(a, b, c, y, flip):
    for i in range(a.size):
        y[3 * i] = np.uint8(a[i]) ^ flip
        y[3 * i + 1] = np.uint8(b[i]) ^ flip
        y[3 * i + 2] = np.uint8(c[i]) ^ flip


@serial
def _one_plane(x, y, channels, flip):
    for i in range(x.size):
        y[i * channels] = np.uint8(x[i]) ^ flip


@kernel
def pad_integers(x, y, edge, size, begins, wide, flip, planes):
    """y (n, *wide, c), unsigned bytes = x at offset `begins` (not negative), edge[0] around it.

    size: (n, d, h, w, c), the sizes of x, which lies in this order or, if `planes`, as (n, c, d, h, w).
    flip: 128 for an x of signed bytes, which are shifted by so much; else 0.
    """
    for index in prange(size[0] * wide[0] * wide[1]):
        line = np.int64(index)
        _pad_line(line, x, y, size, begins, wide, edge[0], np.uint8(flip), planes)
