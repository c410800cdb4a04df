"""Depthwise convolution: every channel by a filter of its own, vectorized over channels.

Weights lie in panels as for conv.py, with a depth of one: (panel, tap, lane). The arguments that describe taps and
grids are those of conv_gather, so that one kernel serves the forward convolution and its gradient by the input.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import simd
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.tiling import PANEL_VECS

__all__ = ["depthwise_gather", "depthwise_weight_grad"]


@serial
def _inside_taps(scratch, slot, taps, source, base, d, h, w):
    """List the taps that meet the picture at (d, h, w): start in x, number in the weights. Returns how many."""
    in_d, in_h, in_w, pitch = source[0], source[1], source[2], source[3]
    count = 0
    for tap in range(taps.size // 4):
        at_d, at_h, at_w = d + taps[4 * tap], h + taps[4 * tap + 1], w + taps[4 * tap + 2]
        if 0 <= at_d < in_d and 0 <= at_h < in_h and 0 <= at_w < in_w:
            scratch[slot + 2 * count] = base + ((at_d * in_h + at_h) * in_w + at_w) * pitch
            scratch[slot + 2 * count + 1] = taps[4 * tap + 3]
            count += 1
    return count


@serial
def _filter_pixel(x, w, bias, residual, y, scratch, slot, count, all_taps, place, channels, low, high):
    """All channels of one output pixel."""
    lanes = simd.lanes(y)
    vecs = 1 if channels <= lanes else PANEL_VECS  # registers in a panel, as the weights were packed
    for block in range((channels + lanes - 1) // lanes):
        c = block * lanes
        left = channels - c
        weight = (block // vecs * all_taps * vecs + block % vecs) * lanes
        value = simd.zeros(y)
        if bias.size > 0:
            value = simd.load_first(bias, c, left)
        if residual.size > 0:
            value = simd.add(value, simd.load_first(residual, place + c, left))
        for i in range(count):
            pixel = simd.load_first(x, scratch[slot + 2 * i] + c, left)
            value = simd.fma(pixel, simd.load(w, weight + scratch[slot + 2 * i + 1] * vecs * lanes), value)
        simd.store_first(y, place + c, simd.clamp(value, low, high), left)


@serial
def _filter_line(line, x, w, bias, residual, y, taps, scratch, slot, grid, source, target, weights, low, high):
    """One line of the grid."""
    _n, grid_d, grid_h, grid_w = grid
    in_d, in_h, in_w, pitch, _run, step_d, step_h, step_w = source
    out_d, out_h, out_w, out_pitch, at_d, at_h, at_w, jump_d, jump_h, jump_w = target
    _groups, channels, all_taps = weights
    h = line % grid_h
    d = line // grid_h % grid_d
    image = line // grid_h // grid_d
    base = image * in_d * in_h * in_w * pitch
    row = ((image * out_d + at_d + d * jump_d) * out_h + at_h + h * jump_h) * out_w + at_w
    for w_at in range(grid_w):
        count = _inside_taps(scratch, slot, taps, source, base, d * step_d, h * step_h, w_at * step_w)
        place = (row + w_at * jump_w) * out_pitch
        _filter_pixel(x, w, bias, residual, y, scratch, slot, count, all_taps, place, channels, low, high)


@kernel
def depthwise_gather(x, w, bias, residual, y, taps, scratch, grid, source, target, weights, slot, low, high):
    """y[pixel, c] = clamp(bias[c] + residual[pixel, c] + sum over taps of x[pixel moved by the tap, c] * w[tap, c],
    low, high).

    Arguments as conv_gather's; weights: (1, channels, taps in w). scratch: `slot` integers for each thread, two a tap.
    """
    for index in prange(grid[0] * grid[1] * grid[2]):
        line = np.int64(index)
        at = get_thread_id() * slot
        _filter_line(line, x, w, bias, residual, y, taps, scratch, at, grid, source, target, weights, low, high)


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
def depthwise_weight_grad(x, dy, dw, taps, source, outer, channels):
    """dw[tap, c] = sum over pixels of x[pixel moved by the tap, c] * dy[pixel, c]; arguments as conv_weight_grad's."""
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
