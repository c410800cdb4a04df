"""The gradient of a convolution by its weights: a product whose long side is the pixels.

For each tap and each tile of (input channels, output channels), x[pixel, c] * dy[pixel, o] is summed over the pixels
whose tap meets the picture. A block of dy is copied into panels first, because every tap and every tile of input
channels reads it again.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import simd, tile
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.tiling import GRAD_ROWS, PACKED_PANELS, PANEL_VECS

__all__ = ["conv_weight_grad"]


@serial
def _correlate(acc, row, x, dy, starts, x_at, x_step, dy_at, count):
    """acc[c, o] += sum over `count` neighbouring pixels of x[pixel, c] * dy[pixel, o]; dy lies in a packed panel."""
    width = len(row) * simd.lanes(x)
    for _ in range(count):
        acc = tile.fma(acc, x, starts, x_at, tile.row(row, dy, dy_at))
        x_at += x_step
        dy_at += width
    return acc


@serial
def _pack_dy(row, dy, packed, spot, first, count, pitch, channels, panels, panel0, panel1):
    """Copy panels panel0..panel1 of `count` pixels of dy: (panel, pixel, lane), filled up with zeros.

    Pixel after pixel, because dy then streams in; panels are numbered through all groups.
    """
    lanes = simd.lanes(dy)
    width = len(row) * lanes
    for i in range(count):
        for panel in range(panel0, panel1):
            column = panel % panels * width
            start = (first + i) * pitch + panel // panels * channels + column
            place = spot + ((panel - panel0) * count + i) * width
            for v in range(0, width, lanes):
                simd.store(packed, place + v, simd.load_first(dy, start + v, channels - column - v))


@serial
def _grad_tile(acc, row, x, dy, dw, starts, line0, line1, move, source, outer, base, panel, place, spill, spot, rows):
    """One tile of one tap over the output lines line0..line1, added to dw at `place` (set there, on the first lines).

    dy: the lines' packed panel, from `panel` on. base: the first channel of the group.
    """
    in_d, in_h, in_w, pitch, _run, step_d, step_h, step_w = source
    _n, out_d, out_h, out_w, _out_pitch = outer
    move_d, move_h, move_w = move
    lanes = simd.lanes(x)
    width = len(row) * lanes
    # The first and the last column of the output whose tap meets the picture.
    w0 = max(0, (-move_w + step_w - 1) // step_w)
    w1 = min(out_w, (in_w - 1 - move_w) // step_w + 1)
    h = line0 % out_h
    d = line0 // out_h % out_d
    image = line0 // out_h // out_d
    for line in range(line0, line1):
        at_h, at_d = h * step_h + move_h, d * step_d + move_d
        if 0 <= at_h < in_h and 0 <= at_d < in_d and w1 > w0:
            x_at = (((image * in_d + at_d) * in_h + at_h) * in_w + w0 * step_w + move_w) * pitch + base
            dy_at = panel + ((line - line0) * out_w + w0) * width
            acc = _correlate(acc, row, x, dy, starts, x_at, step_w * pitch, dy_at, w1 - w0)
        h += 1
        if h == out_h:
            h = 0
            d += 1
            if d == out_d:
                d = 0
                image += 1
    tile.spill(acc, spill, spot)
    for i in range(rows * len(row)):
        value = simd.load(spill, spot + i * lanes)
        if line0 > 0:
            value = simd.add(value, simd.load(dw, place + i * lanes))
        simd.store(dw, place + i * lanes, value)


@serial
def _row_starts(scratch, slot, c0, depth, joined, taps, source):
    """Where each row of a tile lies in x, seen from the pixel: its channel and, where taps are joined, its tap."""
    _in_d, in_h, in_w, pitch, run, _sd, _sh, _sw = source
    for r in range(GRAD_ROWS):
        place = min(c0 + r, depth - 1)
        start = place
        if joined:
            tap = place // run
            move = (taps[4 * tap] * in_h + taps[4 * tap + 1]) * in_w + taps[4 * tap + 2]
            start = move * pitch + place % run
        scratch[slot + r] = start


@serial
def _grad_part(acc, row, part, x, dy, dw, taps, scratch, spill, packed, thread, source, outer, weights, schedule):
    """A share of the tiles of dw; every line of the output is visited, a block of lines at a time."""
    groups, channels, _all = weights
    lines, parts, joined = schedule
    n, out_d, out_h, out_w, out_pitch = outer
    lanes = simd.lanes(x)
    width = len(row) * lanes
    panels = (channels + width - 1) // width
    # Taps that are visited one after the other, and rows of dw in each visit.
    visits = 1 if joined else taps.size // 4
    depth = taps.size // 4 * source[4] // visits
    tiles = (depth + GRAD_ROWS - 1) // GRAD_ROWS
    total = groups * panels * visits * tiles
    first, last = total * part // parts, total * (part + 1) // parts
    spot = thread * GRAD_ROWS * PANEL_VECS * lanes
    slot = thread * 16
    packed_at = thread * lines * out_w * PANEL_VECS * lanes * PACKED_PANELS
    end_panel = (last - 1) // tiles // visits + 1
    all_lines = n * out_d * out_h
    for line0 in range(0, all_lines, lines):
        line1 = min(line0 + lines, all_lines)
        pixels = (line1 - line0) * out_w
        panel0 = panel1 = 0
        for item in range(first, last):
            c0 = item % tiles * GRAD_ROWS
            tap = item // tiles % visits
            panel = item // tiles // visits
            if panel >= panel1:
                panel0, panel1 = panel, min(panel + PACKED_PANELS, end_panel)
                _pack_dy(row, dy, packed, packed_at, line0 * out_w, pixels, out_pitch, channels, panels, panel0, panel1)
            panel_at = packed_at + (panel - panel0) * pixels * width
            _row_starts(scratch, slot, c0, depth, joined, taps, source)
            rows = min(GRAD_ROWS, depth - c0)
            apart = 0 if joined else 1
            move = (apart * taps[4 * tap], apart * taps[4 * tap + 1], apart * taps[4 * tap + 2])
            place = ((panel * visits + taps[4 * tap + 3]) * depth + c0) * width
            starts = tile.starts(acc, row, scratch, slot)
            base = panel // panels * source[4]
            _grad_tile(
                acc,
                row,
                x,
                packed,
                dw,
                starts,
                line0,
                line1,
                move,
                source,
                outer,
                base,
                panel_at,
                place,
                spill,
                spot,
                rows,
            )


@kernel
def conv_weight_grad(x, dy, dw, taps, scratch, spill, packed, source, outer, weights, schedule):
    """dw[tap, c, o] = sum over pixels of x[pixel moved by the tap, c] * dy[pixel, o], packed as the weights are.

    x, dy: activations, channels last. taps, source, weights: as in conv_gather's forward call. outer: (n, d, h, w,
    pitch) of dy. schedule: (lines of the output in a block, shares of dw that run in parallel, 1 if no tap ever falls
    off the picture and they are numbered in order: then tiles span taps). scratch (16 integers), spill (a tile), packed
    (PACKED_PANELS panels of a block of lines): for each thread. Each element of dw is summed by one thread in an order
    that depends on neither number of threads nor shares.
    """
    lanes = simd.lanes(x)
    for index in prange(schedule[1]):
        part = np.int64(index)
        thread = get_thread_id()
        if weights[1] <= lanes:
            acc, row = tile.zeros(x, GRAD_ROWS, 1), tile.zeros(x, 1, 1)
            _grad_part(
                acc, row, part, x, dy, dw, taps, scratch, spill, packed, thread, source, outer, weights, schedule
            )
        else:
            wide, wide_row = tile.zeros(x, GRAD_ROWS, PANEL_VECS), tile.zeros(x, 1, PANEL_VECS)
            _grad_part(
                wide, wide_row, part, x, dy, dw, taps, scratch, spill, packed, thread, source, outer, weights, schedule
            )
