"""Convolution as a matrix product over gathered pixels (implicit GEMM), any number of spatial dimensions up to three.

Arrays are flat; activations lie channels last, (n, d, h, w, channels). Spatial triples are (depth, height, width),
with ones in front for fewer dimensions. Weights are packed as tiling.py says.

`conv_gather` serves three purposes with one loop: forward convolution, its gradient by the input (for each residue of
the position modulo the stride, only the taps that meet it), and transposed convolution. What differs is the list of
taps and the two grids. The gradient by the weights is in conv_grad.py.

The gather is that of XNNPACK's indirect convolution (Dukhan, "The Indirect Convolution Algorithm", arXiv:1907.02129),
except that the table of row starts is made a block at a time and never stored.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import simd, tile
from nbcnn.kernels.cpu.jit import inlined, kernel, serial
from nbcnn.kernels.cpu.tiling import CHANNEL_BLOCK, DEPTH_BLOCK, PANEL_VECS, ROWS

__all__ = ["conv_gather", "gather_rows", "locate"]


@serial
def locate(scratch, slot, block, first, count, grid, source, target, inside):
    """Write the source and output starts of `count` pixels from `first` on into the slot, and, unless every tap of
    every pixel is `inside` the picture, their d, h, w in the source."""
    _n, grid_d, grid_h, grid_w = grid
    in_d, in_h, in_w, pitch, _run, step_d, step_h, step_w = source
    out_d, out_h, out_w, out_pitch, at_d, at_h, at_w, jump_d, jump_h, jump_w = target
    w = first % grid_w
    rest = first // grid_w
    h = rest % grid_h
    rest //= grid_h
    d = rest % grid_d
    image = rest // grid_d
    done = 0
    while done < count:
        # The rest of one line: everything but w is the same for all of its pixels.
        length = min(grid_w - w, count - done)
        base = ((image * in_d + d * step_d) * in_h + h * step_h) * in_w * pitch
        row = ((image * out_d + at_d + d * jump_d) * out_h + at_h + h * jump_h) * out_w + at_w
        for i in range(length):
            place = slot + done + i
            simd.put(scratch, place, base + (w + i) * step_w * pitch)
            simd.put(scratch, place + 4 * block, (row + (w + i) * jump_w) * out_pitch)
        if not inside:
            for i in range(length):
                place = slot + done + i
                simd.put(scratch, place + block, d * step_d)
                simd.put(scratch, place + 2 * block, h * step_h)
                simd.put(scratch, place + 3 * block, (w + i) * step_w)
        done += length
        w = 0
        h += 1
        if h == grid_h:
            h = 0
            d += 1
            if d == grid_d:
                d = 0
                image += 1


@serial
def gather_rows(scratch, slot, block, count, padded, taps, tap, source, outside, inside):
    """Write the start in x of every pixel's row for one tap; `outside` where the tap falls off the picture."""
    in_d, in_h, in_w, pitch, _run, _sd, _sh, _sw = source
    move_d, move_h, move_w = taps[4 * tap], taps[4 * tap + 1], taps[4 * tap + 2]
    move = ((move_d * in_h + move_h) * in_w + move_w) * pitch
    table = slot + (5 + tap) * block
    if inside:
        for i in range(count):
            simd.put(scratch, table + i, simd.get(scratch, slot + i) + move)
    else:
        for i in range(count):
            d = simd.get(scratch, slot + block + i) + move_d
            h = simd.get(scratch, slot + 2 * block + i) + move_h
            w = simd.get(scratch, slot + 3 * block + i) + move_w
            meets = (d >= 0) & (d < in_d) & (h >= 0) & (h < in_h) & (w >= 0) & (w < in_w)
            start = simd.get(scratch, slot + i) + move
            simd.put(scratch, table + i, start if meets else outside)
    for i in range(count, padded):
        simd.put(scratch, table + i, outside)


@inlined
def _multiply(acc, row, x, table, at, block, taps, tap0, tap1, c0, c1, w, panel, run):
    """One tile: the product of gathered pixels and a weight panel over taps tap0..tap1 and channels c0..c1.

    Meanwhile the pixels of the next tile are asked for: a cache line of each is 16 channels or half of it, and takes so
    many steps, so that every step asks for one row's.
    """
    width = len(row) * simd.lanes(x)
    rows = len(acc) // len(row)
    for tap in range(tap0, tap1):
        start = at + tap * block
        starts = tile.starts(acc, row, table, start)
        weight = panel + (taps[4 * tap + 3] * run + c0) * width
        for c in range(c0, c1):
            simd.prefetch(x, simd.get(table, start + rows + (c & 15)) + c)
            acc = tile.fma(acc, x, starts, c, tile.row(row, w, weight))
            weight += width
    return acc


@serial
def _ask_for(row, y, scratch, at, rows, column):
    """Ask for the places of a tile in y."""
    for r in range(rows):
        for v in range(len(row)):
            simd.prefetch(y, simd.get(scratch, at + r) + column + v * simd.lanes(y))


@serial
def _finish_edge(row, spill, spot, bias, base, y, scratch, at, rows, column, columns, low, high):
    """As tile.finish_onto for a spilled tile, of which only so many rows and columns are there."""
    lanes = simd.lanes(y)
    vecs = len(row)
    for r in range(rows):
        start = scratch[at + r] + column
        for v in range(vecs):
            left = columns - v * lanes
            if left <= 0:
                break
            value = simd.load(spill, spot + (r * vecs + v) * lanes)
            place = start + v * lanes
            if bias.size > 0:
                value = simd.add(value, simd.load_first(bias, column + v * lanes, left))
            if base.size > 0:
                value = simd.add(value, simd.load_first(base, place, left))
            simd.store_first(y, place, simd.clamp(value, low, high), left)


@serial
def _pack_rows(x, packed, at, pitch, scratch, slot, block, rows, depth, taps, at_once):
    """Copy a part of the depth of every gathered row, (tap0, tap1, c0, c1), next to each other, and write tables of the
    copies behind those of the `taps`.

    Rows that lie a multiple of 4 KiB apart share their places in the L1 cache and push each other out of it.
    """
    tap0, tap1, c0, c1 = depth
    lanes = simd.lanes(x)
    distance = simd.distance(x, packed) - c0
    for i in range(rows):
        for tap in range(tap0, tap1):
            start = scratch[slot + (5 + tap) * block + i]
            place = at + i * pitch + (tap - tap0) * at_once
            for c in range(c0, c1, lanes):
                simd.store(packed, place + c - c0, simd.load_first(x, start + c, c1 - c))
            scratch[slot + (5 + taps + tap - tap0) * block + i] = distance + place


@serial
def _gather_panel(
    acc, row, x, w, bias, base, y, taps, scratch, spill, slot, spot, block, count, run, table, depth, panel, column,
    columns, low, high,
):  # fmt: skip
    """All pixels of a block by one weight panel, over a part of its depth: (tap0, tap1, c0, c1)."""
    tap0, tap1, c0, c1 = depth
    rows = len(acc) // len(row)
    width = len(row) * simd.lanes(y)
    added = tile.row_first(row, bias, column, columns) if bias.size > 0 else row
    for i in range(0, count, rows):
        at = slot + 4 * block + i
        left = min(rows, count - i)
        _ask_for(row, y, scratch, at + left, min(rows, count - i - left), column)
        if base.size > 0:
            _ask_for(row, base, scratch, at + left, min(rows, count - i - left), column)
        found = _multiply(acc, row, x, scratch, table + i, block, taps, tap0, tap1, c0, c1, w, panel, run)
        if (left < rows) | (columns < width):
            tile.spill(found, spill, spot)
            _finish_edge(row, spill, spot, bias, base, y, scratch, at, left, column, columns, low, high)
        elif base.size > 0:
            tile.finish_onto(found, row, y, tile.starts(acc, row, scratch, at), column, added, base, low, high)
        else:
            tile.finish(found, row, y, tile.starts(acc, row, scratch, at), column, added, low, high)


@serial
def _gather_panels(
    acc, row, x, w, bias, residual, y, taps, scratch, spill, packed, thread, slot, block, count, source, weights, group,
    panel0, panel1, low, high,
):  # fmt: skip
    """All pixels of a block by panels panel0..panel1 of a group, a part of the depth after the other."""
    _groups, channels, all_taps = weights
    run = source[4]
    width = len(row) * simd.lanes(y)
    panels = (channels + width - 1) // width
    rows = len(acc) // len(row)
    tap_count = taps.size // 4
    spot = thread * ROWS * PANEL_VECS * simd.lanes(y)
    at_once = max(min(run, CHANNEL_BLOCK), 1)
    group_of_taps = max(DEPTH_BLOCK // at_once, 1)
    copies = packed.size > 0
    pitch = at_once * min(group_of_taps, tap_count) + simd.lanes(x)
    parts = (run + at_once - 1) // at_once
    visits = max((tap_count + group_of_taps - 1) // group_of_taps, 1) * max(parts, 1)
    for visit in range(visits):
        tap0 = visit // max(parts, 1) * group_of_taps
        c0 = visit % max(parts, 1) * at_once
        depth = (tap0, min(tap0 + group_of_taps, tap_count), c0, min(c0 + at_once, run))
        table = slot + 5 * block
        if copies:
            padded = (count + rows - 1) // rows * rows
            place = thread * block * pitch
            _pack_rows(x, packed, place, pitch, scratch, slot, block, padded, depth, tap_count, at_once)
            table += (tap_count - tap0) * block
        # A later visit adds to what the earlier ones stored; the last one clamps.
        first, last = visit == 0, visit == visits - 1
        floor = low if last else y.dtype.type(-np.inf)
        ceiling = high if last else y.dtype.type(np.inf)
        base = residual if first else y
        offset = bias if first else bias[:0]
        for panel in range(panel0, panel1):
            start = (group * panels + panel) * all_taps * run * width
            column = group * channels + panel * width
            columns = min(width, channels - panel * width)
            _gather_panel(
                acc, row, x, w, offset, base, y, taps, scratch, spill, slot, spot, block, count, run, table, depth,
                start, column, columns, floor, ceiling,
            )  # fmt: skip


@serial
def _gather_task(
    task, x, w, bias, residual, y, taps, zeros, scratch, spill, packed, thread, grid, source, target, weights, schedule,
    low, high,
):  # fmt: skip
    """One block of pixels by one range of panels of one group."""
    groups, channels, _taps = weights
    block, panel_group, inside, scratch_slot = schedule
    run = source[4]
    lanes = simd.lanes(y)
    width = lanes if channels <= lanes else PANEL_VECS * lanes
    panels = (channels + width - 1) // width
    ranges = (panels + panel_group - 1) // panel_group
    pixels = grid[0] * grid[1] * grid[2] * grid[3]
    panel0 = task % ranges * panel_group
    panel1 = min(panel0 + panel_group, panels)
    group = task // ranges % groups
    first = task // ranges // groups * block
    count = min(block, pixels - first)
    tap_count = taps.size // 4
    slot = thread * scratch_slot
    padded = (count + ROWS - 1) // ROWS * ROWS
    outside = simd.distance(x, zeros)
    locate(scratch, slot, block, first, count, grid, source, target, inside)
    for i in range(count):
        scratch[slot + i] += group * run
    for tap in range(tap_count):
        gather_rows(scratch, slot, block, count, padded, taps, tap, source, outside, inside)
    if channels <= lanes:
        acc, row = tile.zeros(y, ROWS, 1), tile.zeros(y, 1, 1)
        _gather_panels(
            acc, row, x, w, bias, residual, y, taps, scratch, spill, packed, thread, slot, block, count, source,
            weights, group, panel0, panel1, low, high,
        )  # fmt: skip
    else:
        wide, wide_row = tile.zeros(y, ROWS, PANEL_VECS), tile.zeros(y, 1, PANEL_VECS)
        _gather_panels(
            wide, wide_row, x, w, bias, residual, y, taps, scratch, spill, packed, thread, slot, block, count, source,
            weights, group, panel0, panel1, low, high,
        )  # fmt: skip


@kernel
def conv_gather(
    x, w, bias, residual, y, taps, zeros, scratch, spill, packed, grid, source, target, weights, schedule, low, high
):
    """y[pixel, :] = clamp(bias + residual[pixel, :] + sum over taps of x[pixel moved by the tap, :] @ w[tap], low,
    high).

    x, y, residual: activations, channels last; bias (channels); bias and residual may be empty. y is overwritten; the
    residual may be y itself.
    w: packed weights. taps: int64, four for each tap: its move (d, h, w) in the source, and its number in w.
    zeros: at least `run` zeros, read where a tap falls off the picture.
    scratch (int64), spill: a slot for each thread. packed: a slot for the gathered rows of a block, which are copied
    there first; or empty, and they are read where they lie.
    grid: (n, d, h, w), the pixels to compute. source: (d, h, w, pitch, run, step d, h, w): extent of x, elements from
    pixel to pixel, elements that a tap takes, and the move in x from one pixel of the grid to the next.
    target: (d, h, w, pitch, first d, h, w, step d, h, w): extent of y, and where in it the grid lies.
    weights: (groups, output channels a group, taps in w). schedule: (pixels in a block, panels in a
    task, 1 if no tap ever falls off the picture, integers of scratch for a thread: a pixel of a block has 5, one for
    each tap, and one for each tap that is copied at once; then 2 * 16, which are read but not used).
    """
    groups, channels, _taps = weights
    block, panel_group, _inside, _slot = schedule
    lanes = simd.lanes(y)
    width = lanes if channels <= lanes else PANEL_VECS * lanes
    panels = (channels + width - 1) // width
    ranges = (panels + panel_group - 1) // panel_group
    blocks = (grid[0] * grid[1] * grid[2] * grid[3] + block - 1) // block
    for index in prange(blocks * groups * ranges):
        task = np.int64(index)
        _gather_task(
            task, x, w, bias, residual, y, taps, zeros, scratch, spill, packed, get_thread_id(), grid, source, target,
            weights, schedule, low, high,
        )  # fmt: skip
