"""Depthwise convolution by 3x3 taps, of stride 1 or 2: what MobileNets and their kin consist of.

A tile is a register of channels of a few lines, with a register for each of its nine taps. It slides along the lines:
each column of x is loaded once, and added at once to all outputs that it is a part of. So there are 36 multiplications
for 6 loads, where depthwise.py, which takes any taps, has a load for each. Lines above and below the picture are a line
of zeros; columns beside it are left out.

Weights lie in panels as for depthwise.py.
"""

from __future__ import annotations

import numpy as np
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from nbcnn.kernels.cpu import pixels, simd, tile
from nbcnn.kernels.cpu.jit import apart, kernel, serial
from nbcnn.kernels.cpu.simd import emit_fma
from nbcnn.kernels.cpu.tiling import FAR_LINES, LINES, NEAR_LINES, PANEL_VECS

__all__ = ["depthwise_3x3", "slide", "stride"]


@intrinsic
def _line_starts(typingctx, template, first, start, pitch, height, hollow):
    """_line_starts(template, first, start, pitch, height, hollow): where lines `first`, first + 1, ... begin, as many
    as the template has registers: start + line * pitch, or `hollow` where the picture of `height` has no such line.
    """
    kind = types.UniTuple(types.int64, template.count)

    def codegen(context, builder, signature, args):
        _, first, start, pitch, height, hollow = args
        found = []
        for r in range(template.count):
            line = builder.add(first, first.type(r))
            inside = builder.icmp_unsigned("<", line, height)
            found.append(builder.select(inside, builder.add(start, builder.mul(line, pitch)), hollow))
        return context.make_tuple(builder, kind, found)

    return kind(template, *(types.int64,) * 5), codegen


@intrinsic(prefer_literal=True)
def _correlate(typingctx, sums, column, factors, across):
    """_correlate(sums, column, factors, across): the column of x under the kernel's column `across` (0, 1 or 2, a
    literal), added to the sums of its lines. How many lines of x there are tells the stride.
    """
    stride = (column.count - 3) // (sums.count - 1)

    def codegen(context, builder, signature, args):
        found, x, w = (cgutils.unpack_tuple(builder, a) for a in args[:3])
        for down in range(3):
            factor = w[3 * down + across.literal_value]
            found = [emit_fma(builder, sums.dtype, x[r * stride + down], factor, s) for r, s in enumerate(found)]
        return context.make_tuple(builder, sums, found)

    return sums(sums, column, factors, across), codegen


@apart
def _load_part(x, ins, at, left):
    """A column of which not all lanes are channels."""
    return pixels.load_first(x, ins, at, len(ins), left)


@apart
def _finish_part(total, residual, y, outs, at, count, left, low, high):
    """Store a tile's column with what is rare: a residual, fewer lines or fewer channels."""
    if residual.size > 0:
        total = pixels.add(total, pixels.load_first(residual, outs, at, count, left))
    pixels.store_first(y, outs, at, pixels.clamp(total, low, high), count, left)


@serial
def slide(sums, factors, shift, x, ins, in_w, before, residual, y, outs, place, out_w, pitch, count, left, low, high):
    """A tile of stride 1. before: columns of padding on the left; count, left: lines and channels that are there."""
    whole = left >= simd.lanes(y)
    plain = (residual.size == 0) & whole & (count >= len(sums))
    first, second = sums, pixels.fill(sums, shift)
    at = place - 2 * pitch
    for column in range(-before, out_w + 2 - before):
        third = pixels.fill(sums, shift)
        if 0 <= column < in_w:
            found = pixels.load(x, ins, column * pitch) if whole else _load_part(x, ins, column * pitch, left)
            first = _correlate(first, found, factors, 2)
            second = _correlate(second, found, factors, 1)
            third = _correlate(third, found, factors, 0)
        if at >= place:
            if plain:
                pixels.store(y, outs, at, pixels.clamp(first, low, high))
            else:
                _finish_part(first, residual, y, outs, at, count, left, low, high)
        at += pitch
        first, second = second, third


@serial
def stride(sums, factors, shift, x, ins, in_w, before, residual, y, outs, place, out_w, pitch, count, left, low, high):
    """A tile of stride 2: an output ends in the column of x where the next one begins."""
    whole = left >= simd.lanes(y)
    plain = (residual.size == 0) & whole & (count >= len(sums))
    total = pixels.fill(sums, shift)
    if 0 <= -before < in_w:
        found = pixels.load(x, ins, -before * pitch) if whole else _load_part(x, ins, -before * pitch, left)
        total = _correlate(total, found, factors, 0)
    for w in range(out_w):
        column, at = 2 * w + 1 - before, place + w * pitch
        if 0 <= column < in_w:
            found = pixels.load(x, ins, column * pitch) if whole else _load_part(x, ins, column * pitch, left)
            total = _correlate(total, found, factors, 1)
        column += 1
        following = pixels.fill(sums, shift)
        if 0 <= column < in_w:
            found = pixels.load(x, ins, column * pitch) if whole else _load_part(x, ins, column * pitch, left)
            total = _correlate(total, found, factors, 2)
            following = _correlate(following, found, factors, 0)
        if plain:
            pixels.store(y, outs, at, pixels.clamp(total, low, high))
        else:
            _finish_part(total, residual, y, outs, at, count, left, low, high)
        total = following


@serial
def _task(task, x, w, bias, residual, y, nothing, places, source, target, before, schedule, low, high):
    """A few lines of y, a few registers of channels."""
    in_h, in_w, step = source
    _images, out_h, out_w, channels = target
    lines, blocks = schedule
    lanes = simd.lanes(y)
    sums, near, far = tile.zeros(y, LINES, 1), tile.zeros(y, NEAR_LINES, 1), tile.zeros(y, FAR_LINES, 1)
    taps = tile.starts(tile.zeros(y, 9, 1), tile.zeros(y, 1, 1), places, 0)
    outs = pixels.starts(sums, out_w * channels)
    hollow, pitch = simd.distance(x, nothing), in_w * channels
    vecs = 1 if channels <= lanes else PANEL_VECS  # registers in a panel, as the weights were packed
    registers = (channels + lanes - 1) // lanes
    groups, parts = (registers + blocks - 1) // blocks, (out_h + lines - 1) // lines
    image, h0 = task // groups // parts, task // groups % parts * lines
    h1 = min(h0 + lines, out_h)
    for line in range(h0, h1, LINES):
        # A last tile that is not whole begins earlier, and computes some lines again: that is faster. A residual may
        # be y itself, and must be added once.
        h = line if residual.size > 0 else max(h0, min(line, h1 - LINES))
        top = h * step - before[0]
        for block in range(task % groups * blocks, min((task % groups + 1) * blocks, registers)):
            c = block * lanes
            factors = pixels.load(w, taps, (block // vecs * 9 * vecs + block % vecs) * lanes)
            shift = simd.zeros(y)
            if bias.size > 0:
                shift = simd.load_first(bias, c, channels - c)
            start = image * in_h * pitch + c
            place = (image * out_h + h) * out_w * channels + c
            if step == 1:
                slide(
                    sums, factors, shift, x, _line_starts(near, top, start, pitch, in_h, hollow), in_w, before[1],
                    residual, y, outs, place, out_w, channels, h1 - h, channels - c, low, high,
                )  # fmt: skip
            else:
                stride(
                    sums, factors, shift, x, _line_starts(far, top, start, pitch, in_h, hollow), in_w, before[1],
                    residual, y, outs, place, out_w, channels, h1 - h, channels - c, low, high,
                )  # fmt: skip


@kernel
def depthwise_3x3(x, w, bias, residual, y, nothing, places, source, target, before, schedule, low, high):
    """y[pixel, c] = clamp(bias[c] + residual[pixel, c] + sum over 3x3 taps of x[pixel moved by the tap, c] * w[tap, c],
    low, high).

    nothing: zeros, a line of x and a register. places: int64, where the nine taps lie in a panel of w, line by line,
    in elements. source: (lines, columns) of a picture of x, and the stride, 1 or 2. target: (pictures, lines, columns,
    channels) of y. before: padding above and on the left, which may be negative. schedule: (lines of y in a task,
    registers of channels in a task). bias and residual may be empty; residual may be y.
    """
    lines, blocks = schedule
    groups = ((target[3] + simd.lanes(y) - 1) // simd.lanes(y) + blocks - 1) // blocks
    for index in prange(target[0] * ((target[1] + lines - 1) // lines) * groups):
        task = np.int64(index)
        _task(task, x, w, bias, residual, y, nothing, places, source, target, before, schedule, low, high)
