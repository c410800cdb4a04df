"""Depthwise convolution of 8-bit integers, over one or two spatial dimensions.

For each line of y and each register of channels, the lines of x under the kernel are first brought side by side: four
of them are the four bytes of each lane, a *quad*. One instruction then multiplies a column of the kernel. Lines and
columns beside the picture are full of x's zero point.

Packed weights are (register of channels, part, quad of lines, kernel column, lane, 4 bytes); integer.py says what parts
are.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import integer_tile, pixels, simd
from nbcnn.kernels.cpu.integer import part_of
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.pixels import PIXELS

__all__ = ["integer_depthwise", "pack_depthwise_integers"]


@serial
def _pack_register(block, w, zero, out, sums, dims, parts):
    channels, height, width = dims
    lanes = simd.lanes(sums)
    quads = (height + 3) // 4
    place = block * parts * quads * width * lanes * 4
    for i in range(place, place + parts * quads * width * lanes * 4):
        out[i] = 0
    for lane in range(min(lanes, channels - block * lanes)):
        channel = block * lanes + lane
        shift = np.int64(0)
        if zero.size > 0:
            shift = np.int64(zero[channel if zero.size > 1 else 0])
        total = np.int64(0)
        for line in range(height):
            for column in range(width):
                value = np.int64(w[(channel * height + line) * width + column]) - shift
                total += value
                for part in range(parts):
                    at = ((part * quads + line // 4) * width + column) * lanes + lane
                    out[place + at * 4 + line % 4] = part_of(value, part)
        sums[channel] = total


@kernel
def pack_depthwise_integers(w, zero, out, sums, dims, parts):
    """As pack_integers, for w (channels, height, width). dims: these three. sums: only those of channels are set."""
    lanes = simd.lanes(sums)
    for index in prange((dims[0] + lanes - 1) // lanes):
        block = np.int64(index)
        _pack_register(block, w, zero, out, sums, dims, parts)


@serial
def _lay_columns(x, hollow, columns, place, base, top, quad, kernel, source, before, channels, left):
    """Bring four lines of x, `left` channels from `base` on, side by side: a register for each column."""
    height, _width, dilation, _across = kernel
    in_h, in_w, _down, _right = source
    lanes = simd.lanes(columns)
    pitch = in_w * channels
    line = 4 * quad
    h0, h1 = top + line * dilation, top + (line + 1) * dilation
    h2, h3 = top + (line + 2) * dilation, top + (line + 3) * dilation
    in0, in1 = 0 <= h0 < in_h, (0 <= h1 < in_h) & (line + 1 < height)
    in2, in3 = (0 <= h2 < in_h) & (line + 2 < height), (0 <= h3 < in_h) & (line + 3 < height)
    at0, at1 = base + h0 * pitch if in0 else hollow, base + h1 * pitch if in1 else hollow
    at2, at3 = base + h2 * pitch if in2 else hollow, base + h3 * pitch if in3 else hollow
    by0, by1 = channels if in0 else 0, channels if in1 else 0
    by2, by3 = channels if in2 else 0, channels if in3 else 0
    place += before[1] * lanes
    if left >= lanes:
        for column in range(in_w):
            starts = (at0 + column * by0, at1 + column * by1, at2 + column * by2, at3 + column * by3)
            simd.store(columns, place + column * lanes, integer_tile.quad(x, starts, columns))
    else:
        for column in range(in_w):
            starts = (at0 + column * by0, at1 + column * by1, at2 + column * by2, at3 + column * by3)
            simd.store(columns, place + column * lanes, integer_tile.quad_first(x, starts, columns, left))


@serial
def _tile(
    acc,
    row,
    w,
    offsets,
    scales,
    y,
    columns,
    place,
    wide,
    at,
    kernel,
    step,
    counts,
    channel,
    out,
    pitch,
    left,
    zero,
    low,
    high,
):
    """As many pixels of y as `acc` has, from `out` on. place: of the first column under the first of them."""
    _height, width, _dilation, across = kernel
    quads, parts = counts
    lanes = simd.lanes(columns)
    starts = pixels.starts(acc, step * lanes)
    found = integer_tile.begin(acc, row, offsets, channel)
    for _part in range(parts):
        for quad in range(quads):
            for column in range(width):
                factor = integer_tile.weights(row, w, at)
                offset = place + (quad * wide + column * across) * lanes
                found = integer_tile.products(found, columns, starts, offset, factor)
                at += lanes * 4
    if left >= lanes:
        factors = integer_tile.factors(row, scales, channel)
        integer_tile.store(found, row, y, pixels.starts(acc, pitch), out, factors, zero, low, high)
    else:
        spot = quads * wide * lanes
        integer_tile.spill(found, columns, spot)
        for r in range(len(acc)):
            integer_tile.store_first(
                columns, spot + r * lanes, y, out + r * pitch, scales, channel, left, zero, low, high
            )


@serial
def _task(
    task, x, w, offsets, edge, scales, y, scratch, kernel, counts, source, target, before, schedule, zero, low, high
):
    """A few lines of y, a few registers of channels. scratch: this thread's."""
    in_h, in_w, down, right = source
    _images, out_h, out_w, channels = target
    lines, blocks, wide, _size = schedule
    quads, parts = counts
    lanes = simd.lanes(scratch)
    registers = (channels + lanes - 1) // lanes
    groups, tasks = (registers + blocks - 1) // blocks, (out_h + lines - 1) // lines
    image, first = task // groups // tasks, task // groups % tasks * lines
    beside = np.int64(edge[0]) * 0x01010101
    for quad in range(quads):
        for i in range(quad * wide * lanes, (quad * wide + before[1]) * lanes):
            scratch[i] = beside
        for i in range((quad * wide + before[1] + in_w) * lanes, (quad + 1) * wide * lanes):
            scratch[i] = beside
    hollow = simd.distance(x, edge)
    many, one = integer_tile.blank(scratch, PIXELS, 1), integer_tile.blank(scratch, 1, 1)
    for h in range(first, min(first + lines, out_h)):
        for block in range(task % groups * blocks, min((task % groups + 1) * blocks, registers)):
            channel = block * lanes
            left = channels - channel
            base, top = image * in_h * in_w * channels + channel, h * down - before[0]
            for quad in range(quads):
                place = quad * wide * lanes
                _lay_columns(x, hollow, scratch, place, base, top, quad, kernel, source, before, channels, left)
            at = block * parts * quads * kernel[1] * lanes * 4
            line = (image * out_h + h) * out_w * channels + channel
            if out_w < PIXELS:
                for i in range(out_w):
                    _tile(
                        one, one, w, offsets, scales, y, scratch, i * right * lanes, wide, at, kernel, right, counts,
                        channel, line + i * channels, channels, left, zero, low, high,
                    )  # fmt: skip
            else:
                for i in range(0, out_w, PIXELS):
                    begin = min(i, out_w - PIXELS)  # the last tile computes some pixels again
                    _tile(
                        many, one, w, offsets, scales, y, scratch, begin * right * lanes, wide, at, kernel, right,
                        counts, channel, line + begin * channels, channels, left, zero, low, high,
                    )  # fmt: skip


@kernel
def integer_depthwise(
    x, w, offsets, edge, scales, y, scratch, kernel, counts, source, target, before, schedule, zero, low, high
):
    """As integer_gather, where every channel has a filter of its own; x and y are (n, h, w, channels).

    edge: at least a register of x's zero point. kernel: its height and width, and the dilation of both. counts: (quads
    of lines, parts) of w. source: (lines, columns) of x, and the strides. target: (images, lines, columns, channels)
    of y. before: padding above and on the left. schedule: (lines of y in a task, registers of channels in a task,
    columns of a line of x with its padding, integers of scratch for a thread: a register for each column and quad, and
    for each pixel of a tile).
    """
    lines, blocks, _wide, size = schedule
    lanes = simd.lanes(scratch)
    groups = ((target[3] + lanes - 1) // lanes + blocks - 1) // blocks
    for index in prange(target[0] * ((target[1] + lines - 1) // lines) * groups):
        task = np.int64(index)
        begin = get_thread_id() * size
        own = scratch[begin : begin + size]
        _task(
            task, x, w, offsets, edge, scales, y, own, kernel, counts, source, target, before, schedule,
            np.int32(zero), np.float32(low), np.float32(high),
        )  # fmt: skip
