"""A 1x1 convolution, a depthwise one of 3x3 taps and another 1x1, in one pass over the picture: the block that
MobileNets consist of (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv:1801.04381).

What lies between the convolutions has many times the channels of what enters and leaves, and is never written as a
whole. A task walks down a band of a picture, a few lines of output at a time, and keeps in scratch memory what the L2
cache holds: a ring of the expanded lines that the depthwise taps still need, and the lines that they give.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import pixels, simd, tile
from nbcnn.kernels.cpu.depthwise_3x3 import slide, stride
from nbcnn.kernels.cpu.jit import apart, kernel, serial
from nbcnn.kernels.cpu.pointwise import pointwise_task
from nbcnn.kernels.cpu.tiling import FAR_LINES, LINES, NEAR_LINES, PANEL_VECS

__all__ = ["inverted_residual"]


@apart
def _product(x, w, bias, residual, y, scratch, slot, dims, schedule, low, high):
    """All blocks of rows of a 1x1 convolution, one after the other."""
    for block in range((dims[0] + schedule[0] - 1) // schedule[0]):
        pointwise_task(np.int64(block), x, w, bias, residual, y, scratch, slot, dims, schedule, low, high)


@serial
def _expand(first, last, kept, image, x, w, bias, scratch, ring, slot, source, hidden, schedule, low, high):
    """Lines `first` to `last` of the expanded picture, to their places in a ring of `kept` lines."""
    in_h, in_w, channels, _step = source
    while first < last:
        place = first % kept
        rows = min(last - first, kept - place) * in_w
        start, end = (image * in_h + first) * in_w * channels, ring + place * in_w * hidden
        _product(
            x[start : start + rows * channels], w, bias, bias[:0], scratch[end : end + rows * hidden], scratch, slot,
            (rows, channels, hidden, hidden), schedule, low, high,
        )  # fmt: skip
        first += rows // in_w


@apart
def _depthwise(top, limit, kept, start, x, w, bias, places, nothing, scratch, middle, table, at, shape, before, bounds):
    """LINES lines of output from the lines of x from `top` on, of which those from 0 to `limit` are there; line i lies
    at `start` + i lines, or at the remainder of i by `kept`, where that is not 0.
    """
    in_w, out_w, channels, step = shape
    lanes = simd.lanes(x)
    low, high = bounds
    sums, near, far = tile.zeros(x, LINES, 1), tile.zeros(x, NEAR_LINES, 1), tile.zeros(x, FAR_LINES, 1)
    one = tile.zeros(x, 1, 1)
    taps = tile.starts(tile.zeros(x, 9, 1), one, places, 0)
    outs, pitch = pixels.starts(sums, out_w * channels), in_w * channels
    vecs = 1 if channels <= lanes else PANEL_VECS  # registers in a panel, as the weights were packed
    hollow = simd.distance(x, nothing)
    for block in range((channels + lanes - 1) // lanes):
        c = block * lanes
        for r in range(FAR_LINES):
            line = top + r
            place = start + (line % kept if kept > 0 else line) * pitch + c
            simd.put(table, at + r, place if (line >= 0) & (line < limit) else hollow)
        factors = pixels.load(w, taps, (block // vecs * 9 * vecs + block % vecs) * lanes)
        shift = simd.zeros(x)
        if bias.size > 0:
            shift = simd.load_first(bias, c, channels - c)
        if step == 1:
            slide(
                sums, factors, shift, x, tile.starts(near, one, table, at), in_w, before, bias[:0], scratch, outs,
                middle + c, out_w, channels, LINES, channels - c, low, high,
            )  # fmt: skip
        else:
            stride(
                sums, factors, shift, x, tile.starts(far, one, table, at), in_w, before, bias[:0], scratch, outs,
                middle + c, out_w, channels, LINES, channels - c, low, high,
            )  # fmt: skip


@serial
def _task(task, thread, x, weights, residual, y, nothing, places, limits, scratch, table, source, target, before, plan):
    """A band of a picture."""
    w_expand, b_expand, w_depth, b_depth, w_project, b_project = weights
    in_h, in_w, channels, step = source
    _images, out_h, out_w, hidden, made = target
    lines, expanding, projecting, size = plan
    bands = (out_h + lines - 1) // lines
    image, h0 = task // bands, task % bands * lines
    h1 = min(h0 + lines, out_h)
    reads = NEAR_LINES if step == 1 else FAR_LINES
    expands = w_expand.size > 0
    ring = thread * size
    middle = ring + (reads * in_w * hidden if expands else 0)
    slot = middle + LINES * out_w * hidden
    at = thread * 2 * FAR_LINES
    top = h0 * step - before[0]
    ready, limit = max(top, 0), min(in_h, (h1 - 1) * step - before[0] + 3)
    shape, between = (in_w, out_w, hidden, step), (limits[2], limits[3])
    for h in range(h0, h1, LINES):
        top = h * step - before[0]
        if expands:
            last = min(top + reads, limit)
            _expand(
                ready, last, reads, image, x, w_expand, b_expand, scratch, ring, slot, source, hidden, expanding,
                limits[0], limits[1],
            )  # fmt: skip
            ready = max(ready, last)
            _depthwise(
                top, limit, reads, ring, scratch, w_depth, b_depth, places, nothing, scratch, middle, table, at, shape,
                before[1], between,
            )  # fmt: skip
        else:
            _depthwise(
                top, limit, 0, image * in_h * in_w * channels, x, w_depth, b_depth, places, nothing, scratch, middle,
                table, at, shape, before[1], between,
            )  # fmt: skip
        rows = min(LINES, h1 - h) * out_w
        start, count = (image * out_h + h) * out_w * made, rows * made
        base = residual[start : start + count] if residual.size > 0 else residual
        _product(
            scratch[middle : middle + rows * hidden], w_project, b_project, base, y[start : start + count], scratch,
            slot, (rows, hidden, made, made), projecting, limits[4], limits[5],
        )  # fmt: skip


@kernel
def inverted_residual(
    x, w_expand, b_expand, w_depth, b_depth, w_project, b_project, residual, y, nothing, places, limits, scratch, table,
    source, target, before, expanding, projecting, schedule,
):  # fmt: skip
    """y = project(depthwise(expand(x))) + residual, each convolution with its bias and clamp.

    x (images, lines, columns, channels), y (images, lines, columns, made), flat, channels last; residual as y, or
    empty; it must not be y. w_expand, w_project: panels, as tiling.py says; w_expand is empty where x goes into
    the depthwise convolution as it is. w_depth: as depthwise_3x3 has it, and so places. Biases may be empty.
    nothing: zeros, a line of what the depthwise convolution reads, a pixel and a register. limits: low and high of
    the three clamps. scratch: a slot for each thread; table: int64, 2 * FAR_LINES for each.
    source: (lines, columns, channels) of a picture of x, and the stride of the depthwise convolution, 1 or 2. target:
    (images, lines, columns, channels between, made) of y. before: padding above and on the left. expanding, projecting:
    the schedules of the products, as in conv_pointwise, all panels in a task. schedule: (lines of y in a task, elements
    of scratch for a thread: the lines of what is between that a tile reads, LINES lines of it, and the larger slot of
    the products).
    """
    lines, size = schedule
    for index in prange(target[0] * ((target[1] + lines - 1) // lines)):
        task, thread = np.int64(index), np.int64(get_thread_id())
        weights = (w_expand, b_expand, w_depth, b_depth, w_project, b_project)
        plan = (lines, expanding, projecting, size)
        _task(
            task, thread, x, weights, residual, y, nothing, places, limits, scratch, table, source, target, before, plan
        )
