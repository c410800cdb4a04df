"""Depthwise convolution of 8-bit integers, over one or two spatial dimensions.

A thread computes four neighbouring channels of a few neighbouring pixels. The words of four lines of x under one column
of the kernel are turned into a word for each channel, whose bytes are the lines, and one instruction (dp4a) multiplies
them. Packed weights are words of four lines: (part, quad of lines, kernel column, padded channel).
"""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda._cuda import cuda, device, kernel, spread
from nbcnn.kernels.cuda.bytes import QUAD, four_words, products, set_word, turned, word
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.integer import part_of
from nbcnn.kernels.cuda.integer_finish import finish
from nbcnn.kernels.cuda.memory import WIDTH, load

__all__ = ["integer_depthwise", "pack_depthwise_integers"]

PIXELS = 4
"""Neighbouring pixels of y that a thread computes."""


@kernel
def _pack(w, zero, out, sums, dims, parts):
    channels, height, width = dims
    padded, quads = sums.size, (height + QUAD - 1) // QUAD
    for channel in range(cuda.grid(1), padded, cuda.gridsize(1)):
        shift = np.int64(0)
        if zero.size > 0 and channel < channels:
            shift = np.int64(zero[channel if zero.size > 1 else 0])
        total = np.int64(0)
        for place in range(parts * quads * width):
            part, quad, column = place // width // quads, place // width % quads, place % width
            bits = 0
            for k in range(QUAD):
                line = QUAD * quad + k
                if line < height and channel < channels:
                    value = np.int64(w[(channel * height + line) * width + column]) - shift
                    total += value if part == 0 else 0
                    bits |= (part_of(value, part) & 255) << 8 * k
            set_word(out, (place * padded + channel) * QUAD, bits)
        sums[channel] = total


def pack_depthwise_integers(w, zero, out, sums, dims, parts, sets):
    """As pack_integers, for w (channels, height, width). dims: these three. sets: not used, the weights are there
    once.
    """
    spread(_pack, sums.size, w, zero, out, sums, dims, parts)


@device
def _line_start(line, height, h, source, image, channels, channel):
    """Where in x the channels of a line under the kernel begin; -1 for one beside the picture."""
    in_h, in_w = source[0], source[1]
    if line >= height or h < 0 or h >= in_h:
        return -1
    return (image * in_h + h) * in_w * channels + channel


@device
def _four_bytes(x, edge, start, column, in_w, channels, left):
    """The bytes of four channels, of which `left` are there; those of the edge beside the picture."""
    if start < 0 or column < 0 or column >= in_w:
        return np.int64(word(edge, 0))
    at = start + column * channels
    if channels % QUAD == 0:
        return np.int64(word(x, at))
    bits = np.int64(0)
    for k in range(min(left, QUAD)):
        bits |= (np.int64(x[at + k]) & 255) << 8 * k
    return bits


@device
def _multiply(sums, weights, x, edge, starts, column, in_w, channels, left):
    """A pixel's four sums + the products of a column of the kernel, four lines of it."""
    lines = turned(
        _four_bytes(x, edge, starts[0], column, in_w, channels, left),
        _four_bytes(x, edge, starts[1], column, in_w, channels, left),
        _four_bytes(x, edge, starts[2], column, in_w, channels, left),
        _four_bytes(x, edge, starts[3], column, in_w, channels, left),
    )
    return (
        products(sums[0], x, lines[0], weights[0]),
        products(sums[1], x, lines[1], weights[1]),
        products(sums[2], x, lines[2], weights[2]),
        products(sums[3], x, lines[3], weights[3]),
    )


@kernel
def _depthwise(
    x, w, offsets, edge, scales, y, count, window, counts, source, target, before, zero, low, high
):  # fmt: skip
    height, width, dilation, across = window
    quads, parts, _sets = counts
    _in_h, in_w, down, right = source
    _images, out_h, out_w, channels = target
    padded, words, runs = offsets.size, (channels + WIDTH - 1) // WIDTH, (out_w + PIXELS - 1) // PIXELS
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        channel, rest = WIDTH * remainder(i, words), divide(i, words)
        out, line = PIXELS * remainder(rest, runs), divide(rest, runs)
        h, image = remainder(line, out_h), divide(line, out_h)
        left, top, first = channels - channel, h * down - before[0], out * right - before[1]
        s0 = s1 = s2 = s3 = load(offsets, channel)
        for block in range(parts * quads):
            quad = block % quads * QUAD
            start = top + quad * dilation
            starts = (
                _line_start(quad, height, start, source, image, channels, channel),
                _line_start(quad + 1, height, start + dilation, source, image, channels, channel),
                _line_start(quad + 2, height, start + 2 * dilation, source, image, channels, channel),
                _line_start(quad + 3, height, start + 3 * dilation, source, image, channels, channel),
            )
            for column in range(width):
                weights = four_words(w, ((block * width + column) * padded + channel) * QUAD)
                at = first + column * across
                s0 = _multiply(s0, weights, x, edge, starts, at, in_w, channels, left)
                s1 = _multiply(s1, weights, x, edge, starts, at + right, in_w, channels, left)
                s2 = _multiply(s2, weights, x, edge, starts, at + 2 * right, in_w, channels, left)
                s3 = _multiply(s3, weights, x, edge, starts, at + 3 * right, in_w, channels, left)
        factors, place = load(scales, channel), (line * out_w + out) * channels + channel
        finish(y, place, left, s0, factors, zero, low, high)
        if out + 1 < out_w:
            finish(y, place + channels, left, s1, factors, zero, low, high)
        if out + 2 < out_w:
            finish(y, place + 2 * channels, left, s2, factors, zero, low, high)
        if out + 3 < out_w:
            finish(y, place + 3 * channels, left, s3, factors, zero, low, high)


def integer_depthwise(
    x, w, offsets, edge, scales, y, scratch, kernel, counts, source, target, before, schedule, zero, low, high
):
    """As integer_gather, where every channel has a filter of its own; x and y are (n, h, w, channels).

    kernel: its height and width, and both dilations. counts: (quads of lines, parts, sets) of w. source: (lines,
    columns) of x, and the strides. target: (images, lines, columns, channels) of y. before: padding above and on the
    left. scratch and schedule are not used.
    """
    images, out_h, out_w, channels = target
    count = images * out_h * -(-out_w // PIXELS) * -(-channels // WIDTH)
    bounds = zero, np.float32(low), np.float32(high)
    spread(_depthwise, count, x, w, offsets, edge, scales, y, count, kernel, counts, source, target, before, *bounds)
