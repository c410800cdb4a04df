"""Depthwise convolution: every channel by a filter of its own, vectorized over channels.

Weights lie in panels as for conv.py, with a depth of one: (panel, tap, lane). The arguments that describe the two grids
are those of conv_gather, so that one kernel serves the forward convolution and its gradient by the input.

A task takes one register of channels of a few lines at a time. What these lines read is first copied to a box, pixel
next to pixel, with zeros where the box reaches over the edge of the picture: then no tap needs a test, and pixels of
many channels, which lie a multiple of some power of two apart, do not push each other out of the L1 cache.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import pixels, simd, tile
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.pixels import PIXELS
from nbcnn.kernels.cpu.tiling import PANEL_VECS

__all__ = ["depthwise_gather", "depthwise_weight_grad"]


@serial
def _fill_box(x, box, slot, image, corner, size, source, c, left):
    """Copy a register of channels of all pixels from `corner` (d, h, w) on, which may lie before the picture."""
    in_d, in_h, in_w, pitch = source[0], source[1], source[2], source[3]
    size_d, size_h, size_w = size
    lanes = simd.lanes(x)
    nothing = simd.zeros(x)
    first, end = min(max(0, -corner[2]), size_w), max(0, min(size_w, in_w - corner[2]))
    for line in range(size_d * size_h):
        d, h = corner[0] + line // size_h, corner[1] + line % size_h
        place = slot + line * size_w * lanes
        inside = 0 <= d < in_d and 0 <= h < in_h
        for w in range(first if inside else size_w):
            simd.store(box, place + w * lanes, nothing)
        if inside:
            start = (((image * in_d + d) * in_h + h) * in_w + corner[2]) * pitch + c
            if left >= lanes:
                for w in range(first, end):
                    simd.store(box, place + w * lanes, simd.load(x, start + w * pitch))
            else:
                for w in range(first, end):
                    simd.store(box, place + w * lanes, simd.load_first(x, start + w * pitch, left))
            for w in range(end, size_w):
                simd.store(box, place + w * lanes, nothing)


@serial
def _filter_box(
    acc, box, slot, w, weight, bias, residual, y, taps, row, lines, grid_w, size_w, source, target, c, left, low, high
):  # fmt: skip
    """A register of channels of the task's lines. row: pixel of y at which the first line begins."""
    step_h, step_w = source[6], source[7]
    out_w, out_pitch, jump_h, jump_w = target[2], target[3], target[8], target[9]
    lanes = simd.lanes(y)
    shift = simd.zeros(y)
    if bias.size > 0:
        shift = simd.load_first(bias, c, left)
    ins = pixels.starts(acc, step_w * lanes)
    outs = pixels.starts(acc, jump_w * out_pitch)
    for line in range(lines):
        for pixel in range(0, grid_w, len(acc)):
            count = grid_w - pixel
            start = slot + (line * step_h * size_w + pixel * step_w) * lanes
            place = (row + line * jump_h * out_w + pixel * jump_w) * out_pitch + c
            total = pixels.fill(acc, shift)
            if residual.size > 0:
                total = pixels.add(total, pixels.load_first(residual, outs, place, count, left))
            for tap in range(0, taps.size, 2):
                factor = simd.load(w, weight + simd.get(taps, tap + 1))
                # Beyond the end of a line this reads something or other, which is not stored.
                total = pixels.fma(total, pixels.load(box, ins, start + simd.get(taps, tap)), factor)
            total = pixels.clamp(total, low, high)
            if left >= lanes and count >= len(acc):
                pixels.store(y, outs, place, total)
            else:
                pixels.store_first(y, outs, place, total, count, left)


@serial
def _filter_task(
    task, x, w, bias, residual, y, taps, box, slot, grid, source, target, weights, first, size, schedule, low, high
):
    """A few lines of the grid, a few registers of channels."""
    _n, grid_d, grid_h, grid_w = grid
    step_d, step_h = source[5], source[6]
    out_d, out_h, out_w, _pitch, at_d, at_h, at_w, jump_d, jump_h, _jump_w = target
    channels, all_taps = weights[1], weights[2]
    lines, blocks, _slot = schedule
    lanes = simd.lanes(y)
    vecs = 1 if channels <= lanes else PANEL_VECS  # registers in a panel, as the weights were packed
    registers = (channels + lanes - 1) // lanes
    groups, parts = (registers + blocks - 1) // blocks, (grid_h + lines - 1) // lines
    h = task // groups % parts * lines
    d = task // groups // parts % grid_d
    image = task // groups // parts // grid_d
    corner = (d * step_d + first[0], h * step_h + first[1], first[2])
    row = ((image * out_d + at_d + d * jump_d) * out_h + at_h + h * jump_h) * out_w + at_w
    acc = tile.zeros(y, PIXELS, 1)
    for block in range(task % groups * blocks, min((task % groups + 1) * blocks, registers)):
        weight = (block // vecs * all_taps * vecs + block % vecs) * lanes
        c = block * lanes
        _fill_box(x, box, slot, image, corner, size, source, c, channels - c)
        _filter_box(
            acc, box, slot, w, weight, bias, residual, y, taps, row, min(lines, grid_h - h), grid_w, size[2], source,
            target, c, channels - c, low, high,
        )  # fmt: skip


@kernel
def depthwise_gather(
    x, w, bias, residual, y, taps, box, grid, source, target, weights, first, size, schedule, low, high
):
    """y[pixel, c] = clamp(bias[c] + residual[pixel, c] + sum over taps of x[pixel moved by the tap, c] * w[tap, c],
    low, high).

    Arguments as conv_gather's; weights: (1, channels, taps in w). taps: int64, two for each tap: where it finds pixel 0
    in the box, and its place in a panel of w, in elements. box: a slot for each thread. first: the smallest move of any
    tap (d, h, w). size: pixels of the box (d, h, w). schedule: (lines of the grid in a task, registers of channels in a
    task, elements of a slot). A slot is as large as the box and PIXELS more steps along a line.
    """
    lines, blocks, slot = schedule
    lanes = simd.lanes(y)
    groups = ((weights[1] + lanes - 1) // lanes + blocks - 1) // blocks
    for index in prange(grid[0] * grid[1] * ((grid[2] + lines - 1) // lines) * groups):
        _filter_task(
            np.int64(index), x, w, bias, residual, y, taps, box, get_thread_id() * slot, grid, source, target, weights,
            first, size, schedule, low, high,
        )  # fmt: skip


@serial
def _correlate_channels(x, dy, dw, move, block, place, source, outer, channels):
    """One register of one tap's gradient: the sum over all pixels."""
    in_d, in_h, in_w, pitch, _run, step_d, step_h, step_w = source
    n, out_d, out_h, out_w, out_pitch = outer
    move_d, move_h, move_w = move
    lanes = simd.lanes(x)
    c = block * lanes
    left = channels - c
    w0 = max(0, (-move_w + step_w - 1) // step_w)
    w1 = min(out_w, (in_w - 1 - move_w) // step_w + 1)
    total = simd.zeros(x)
    for line in range(n * out_d * out_h):
        h = line % out_h * step_h + move_h
        d = line // out_h % out_d * step_d + move_d
        image = line // out_h // out_d
        if 0 <= h < in_h and 0 <= d < in_d:
            x_at = (((image * in_d + d) * in_h + h) * in_w + w0 * step_w + move_w) * pitch + c
            dy_at = (line * out_w + w0) * out_pitch + c
            part = simd.zeros(x)
            for _ in range(w0, w1):
                part = simd.fma(simd.load_first(x, x_at, left), simd.load_first(dy, dy_at, left), part)
                x_at += step_w * pitch
                dy_at += out_pitch
            total = simd.add(total, part)
    simd.store(dw, place, total)


@kernel
def depthwise_weight_grad(x, dy, dw, taps, partials, source, outer, channels, row):
    """dw[tap, c] = sum over pixels of x[pixel moved by the tap, c] * dy[pixel, c]; arguments as conv_weight_grad's.

    row: so many taps follow each other along w, next to next. That and partials, room for sums of a part of the pixels,
    are for a GPU.
    """
    lanes = simd.lanes(x)
    vecs = 1 if channels <= lanes else PANEL_VECS
    blocks = (channels + lanes * vecs - 1) // (lanes * vecs) * vecs
    count = taps.size // 4
    for index in prange(blocks * count):
        task = np.int64(index)
        block, tap = task // count, task % count
        move = (taps[4 * tap], taps[4 * tap + 1], taps[4 * tap + 2])
        place = ((block // vecs * count + taps[4 * tap + 3]) * vecs + block % vecs) * lanes
        _correlate_channels(x, dy, dw, move, block, place, source, outer, channels)
