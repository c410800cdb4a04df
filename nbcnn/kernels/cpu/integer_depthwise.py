"""Depthwise convolution of 8-bit integers, over one or two spatial dimensions.

For each line of y and each register of channels, the lines of x under the kernel are first brought side by side: four
of them are the four bytes of each lane, a *quad*. One instruction then multiplies a column of the kernel. Lines and
columns beside the picture are full of x's zero point.

Packed weights are (register of channels, set, part, quad of lines, kernel column, lane, 4 bytes); integer.py says what
parts are. Where the kernel has three lines and moves in steps of one, a quad serves two lines of y: a second set of
weights lies a line further down.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import integer_tile, pixels, simd
from nbcnn.kernels.cpu.integer import part_of
from nbcnn.kernels.cpu.jit import apart, inlined, kernel, serial
from nbcnn.kernels.cpu.pixels import PIXELS

__all__ = ["integer_depthwise", "pack_depthwise_integers"]


@serial
def _pack_register(block, w, zero, out, sums, dims, parts, sets):
    channels, height, width = dims
    lanes = simd.lanes(sums)
    quads = (height + 3) // 4
    place = block * sets * parts * quads * width * lanes * 4
    for i in range(place, place + sets * parts * quads * width * lanes * 4):
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
                for number in range(sets * parts):
                    shifted = line + number // parts
                    at = ((number * quads + shifted // 4) * width + column) * lanes + lane
                    out[place + at * 4 + shifted % 4] = part_of(value, number % parts)
        sums[channel] = total


@kernel
def pack_depthwise_integers(w, zero, out, sums, dims, parts, sets):
    """As pack_integers, for w (channels, height, width). dims: these three. sums: only those of channels are set.
    sets: 2 for the same weights a second time, a line further down.
    """
    lanes = simd.lanes(sums)
    for index in prange((dims[0] + lanes - 1) // lanes):
        block = np.int64(index)
        _pack_register(block, w, zero, out, sums, dims, parts, sets)


@serial
def _line_start(line, height, h, in_h, base, pitch, hollow):
    """Where a line under the kernel begins; in `hollow`, which is as long, for one beside the picture."""
    return base + h * pitch if (0 <= h < in_h) & (line < height) else hollow


@apart
def _lay_columns(x, columns, place, count, channels, at0, at1, at2, at3):
    """Bring four lines of x side by side: a register for each of so many columns."""
    for column in range(count):
        step = column * channels
        starts = (at0 + step, at1 + step, at2 + step, at3 + step)
        simd.store(columns, place + column * simd.lanes(columns), integer_tile.quad(x, starts, columns))


@apart
def _lay_part(x, columns, place, count, channels, at0, at1, at2, at3, left):
    """As _lay_columns, where only `left` lanes are channels."""
    for column in range(count):
        step = column * channels
        starts = (at0 + step, at1 + step, at2 + step, at3 + step)
        simd.store(columns, place + column * simd.lanes(columns), integer_tile.quad_first(x, starts, columns, left))


@serial
def _lay_lines(x, hollow, columns, place, base, top, quad, kernel, source, channels, left):
    """The four lines of a quad, `left` channels from `base` on."""
    height, _width, dilation, _across = kernel
    in_h, in_w, _down, _right = source
    pitch, line = in_w * channels, 4 * quad
    at0 = _line_start(line, height, top + line * dilation, in_h, base, pitch, hollow)
    at1 = _line_start(line + 1, height, top + (line + 1) * dilation, in_h, base, pitch, hollow)
    at2 = _line_start(line + 2, height, top + (line + 2) * dilation, in_h, base, pitch, hollow)
    at3 = _line_start(line + 3, height, top + (line + 3) * dilation, in_h, base, pitch, hollow)
    if left >= simd.lanes(columns):
        _lay_columns(x, columns, place, in_w, channels, at0, at1, at2, at3)
    else:
        _lay_part(x, columns, place, in_w, channels, at0, at1, at2, at3, left)


@inlined
def _store(found, row, spill, spot, y, outs, out, pitch, factors, scales, channel, left, zero, low, high):
    """A tile's pixels to y, `pitch` elements apart."""
    if left >= simd.lanes(spill):
        integer_tile.store(found, row, y, outs, out, factors, zero, low, high)
    else:
        integer_tile.spill(found, spill, spot)
        for r in range(len(found)):
            place = spot + r * simd.lanes(spill)
            integer_tile.store_first(spill, place, y, out + r * pitch, scales, channel, left, zero, low, high)


@serial
def _one_line(
    acc, row, w, offsets, scales, y, columns, wide, at, width, across, step, counts, channel, start, count, pitch, left,
    zero, low, high,
):  # fmt: skip
    """A line of y, from `start` on: `count` pixels, no less than `acc` has."""
    quads, parts, _sets = counts
    lanes = simd.lanes(columns)
    spot = quads * wide * lanes
    starts, outs = pixels.starts(acc, step * lanes), pixels.starts(acc, pitch)
    first = integer_tile.begin(acc, row, offsets, channel)
    factors = integer_tile.factors(row, scales, channel)
    for i in range(0, count, len(acc)):
        begin = min(i, count - len(acc))  # the last tile computes some pixels again
        found, factor = first, at
        for _part in range(parts):
            for quad in range(quads):
                for column in range(width):
                    offset = (quad * wide + begin * step + column * across) * lanes
                    found = integer_tile.products(found, columns, starts, offset, integer_tile.weights(row, w, factor))
                    factor += lanes * 4
        out = start + begin * pitch
        _store(found, row, columns, spot, y, outs, out, pitch, factors, scales, channel, left, zero, low, high)


@serial
def _two_lines(
    acc, row, w, offsets, scales, y, columns, wide, at, width, across, step, counts, channel, start, count, pitch,
    below, left, zero, low, high,
):  # fmt: skip
    """As _one_line, and the line `below`: of the four lines of a quad, a kernel of three takes either three."""
    _quads, parts, _sets = counts
    lanes = simd.lanes(columns)
    spot, second = wide * lanes, parts * width * lanes * 4
    starts, outs = pixels.starts(acc, step * lanes), pixels.starts(acc, pitch)
    first = integer_tile.begin(acc, row, offsets, channel)
    factors = integer_tile.factors(row, scales, channel)
    for i in range(0, count, len(acc)):
        begin = min(i, count - len(acc))
        upper, lower, factor = first, first, at
        for _part in range(parts):
            for column in range(width):
                offset = (begin * step + column * across) * lanes
                upper = integer_tile.products(upper, columns, starts, offset, integer_tile.weights(row, w, factor))
                shifted = integer_tile.weights(row, w, factor + second)
                lower = integer_tile.products(lower, columns, starts, offset, shifted)
                factor += lanes * 4
        out = start + begin * pitch
        _store(upper, row, columns, spot, y, outs, out, pitch, factors, scales, channel, left, zero, low, high)
        _store(lower, row, columns, spot, y, outs, out + below, pitch, factors, scales, channel, left, zero, low, high)


@serial
def _lines(
    acc, row, h, lines, x, w, offsets, hollow, scales, y, columns, kernel, counts, source, target, before, image,
    blocks, wide, zero, low, high,
):  # fmt: skip
    """One line of y or two, registers blocks[0]..blocks[1] of channels."""
    in_h, in_w, down, right = source
    _images, out_h, out_w, channels = target
    height, width, dilation, across = kernel
    quads, parts, sets = counts
    lanes = simd.lanes(columns)
    below = out_w * channels
    reach = (height + lines - 1, width, dilation, across)
    for block in range(blocks[0], blocks[1]):
        channel = block * lanes
        left = channels - channel
        base, top = image * in_h * in_w * channels + channel, h * down - before[0]
        for quad in range(quads):
            place = (quad * wide + before[1]) * lanes
            _lay_lines(x, hollow, columns, place, base, top, quad, reach, source, channels, left)
        at = block * sets * parts * quads * width * lanes * 4
        start = (image * out_h + h) * below + channel
        if lines > 1:
            _two_lines(
                acc, row, w, offsets, scales, y, columns, wide, at, width, across, right, counts, channel, start, out_w,
                channels, below, left, zero, low, high,
            )  # fmt: skip
        else:
            _one_line(
                acc, row, w, offsets, scales, y, columns, wide, at, width, across, right, counts, channel, start, out_w,
                channels, left, zero, low, high,
            )  # fmt: skip


@serial
def _task(
    task, x, w, offsets, edge, scales, y, columns, kernel, counts, source, target, before, schedule, zero, low, high
):
    """A few lines of y, a few registers of channels. columns: this thread's scratch."""
    in_w = source[1]
    _images, out_h, out_w, channels = target
    lines, blocks, wide, _size = schedule
    quads, _parts, sets = counts
    lanes = simd.lanes(columns)
    registers = (channels + lanes - 1) // lanes
    groups, tasks = (registers + blocks - 1) // blocks, (out_h + lines - 1) // lines
    image, first = task // groups // tasks, task // groups % tasks * lines
    beside = np.int64(edge[0]) * 0x01010101
    for quad in range(quads):
        for i in range(quad * wide * lanes, (quad * wide + before[1]) * lanes):
            columns[i] = beside
        for i in range((quad * wide + before[1] + in_w) * lanes, (quad + 1) * wide * lanes):
            columns[i] = beside
    share = (task % groups * blocks, min((task % groups + 1) * blocks, registers))
    last = min(first + lines, out_h)
    hollow = simd.distance(x, edge)
    many, one = integer_tile.blank(columns, PIXELS, 1), integer_tile.blank(columns, 1, 1)
    for h in range(first, last, sets):
        if out_w >= PIXELS:
            _lines(
                many, one, h, min(sets, last - h), x, w, offsets, hollow, scales, y, columns, kernel, counts, source,
                target, before, image, share, wide, zero, low, high,
            )  # fmt: skip
        else:
            _lines(
                one, one, h, min(sets, last - h), x, w, offsets, hollow, scales, y, columns, kernel, counts, source,
                target, before, image, share, wide, zero, low, high,
            )  # fmt: skip


@kernel
def integer_depthwise(
    x, w, offsets, edge, scales, y, scratch, kernel, counts, source, target, before, schedule, zero, low, high
):
    """As integer_gather, where every channel has a filter of its own; x and y are (n, h, w, channels).

    edge: a line of x's zero point, and a register. kernel: its height and width, and both dilations. counts: (quads
    of lines, parts, sets) of w. source: (lines, columns) of x, and the strides. target: (images, lines, columns,
    channels) of y. before: padding above and on the left. schedule: (lines of y in a task, registers of channels in it,
    columns of a line of x with its padding, integers of scratch for a thread: a register for each column and quad, and
    for each pixel of a tile). lines is a multiple of sets.
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
