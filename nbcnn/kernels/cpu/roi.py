"""Regions of interest: a grid of `out` (regions, h, w) bins from each, of activations that lie channels last.

x has `size` (images, h, w, channels). A region is a row of corners x1, y1, x2, y2 in `rois`, times `scale`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.opcodes import MAXIMUM

__all__ = ["roi_align", "roi_align_grad", "roi_pool", "roi_pool_grad"]

FAR = 1e6
"""Corners further out than so, and those that are no numbers, make bins that are no numbers."""
CHANNELS = 32
"""Channels of a task of the gradient, which goes through all regions of an image."""


@serial
def _bins(at, rois, scale, half, ratio, out):
    """(whether it is a region, start, size of a bin, samples in a bin), the last three along h and w."""
    # Corners are moved by half a pixel, or else a region is no smaller than a pixel.
    offset = 0.5 if half else 0.0
    left, top = rois[at] * scale - offset, rois[at + 1] * scale - offset
    width, height = rois[at + 2] * scale - offset - left, rois[at + 3] * scale - offset - top
    if not abs(left) + abs(top) + abs(width) + abs(height) < FAR:
        return False, top, left, height, width, 0, 0
    if not half:
        width, height = max(width, 1.0), max(height, 1.0)
    height, width = height / out[1], width / out[2]
    if ratio > 0:
        return True, top, left, height, width, ratio, ratio
    return True, top, left, height, width, max(int(np.ceil(height)), 0), max(int(np.ceil(width)), 0)


@serial
def _between(v, size):
    """(pixel, how far v lies from it to the next), or (-1, 0) outside of the picture."""
    if not -1.0 <= v <= size:
        return -1, 0.0
    v = max(v, 0.0)
    low = min(int(v), size - 1)
    return low, v - low if low < size - 1 else 0.0


@serial
def _add_sample(x, target, corner, right, below, h, w):
    """target += the interpolated channels of a sample that lies h and w from its upper left pixel."""
    count = target.size
    a, b = x[corner : corner + count], x[corner + right : corner + right + count]
    corner += below
    c, d = x[corner : corner + count], x[corner + right : corner + right + count]
    kind = x.dtype.type
    w_a, w_b, w_c, w_d = kind((1 - h) * (1 - w)), kind((1 - h) * w), kind(h * (1 - w)), kind(h * w)
    for i in range(count):
        target[i] += w_a * a[i] + w_b * b[i] + w_c * c[i] + w_d * d[i]


@serial
def _raise_sample(x, target, corner, right, below, h, w):
    """target = the larger of it and each of the four weighted pixels, as ONNX defines the maximum."""
    count = target.size
    a, b = x[corner : corner + count], x[corner + right : corner + right + count]
    corner += below
    c, d = x[corner : corner + count], x[corner + right : corner + right + count]
    kind = x.dtype.type
    w_a, w_b, w_c, w_d = kind((1 - h) * (1 - w)), kind((1 - h) * w), kind(h * (1 - w)), kind(h * w)
    for i in range(count):
        best = np.maximum(np.maximum(w_a * a[i], w_b * b[i]), np.maximum(w_c * c[i], w_d * d[i]))
        target[i] = np.maximum(target[i], best)


@serial
def _align_line(line, mode, x, rois, images, y, scale, half, ratio, size, out):
    """The bins of a line of a region."""
    _, in_h, in_w, channels = size
    region, ph = line // out[1], line % out[1]
    valid, top, left, bin_h, bin_w, count_h, count_w = _bins(region * 4, rois, scale, half, ratio, out)
    base = images[region] * in_h * in_w * channels
    for pw in range(out[2]):
        place = (line * out[2] + pw) * channels
        target = y[place : place + channels]
        samples = count_h * count_w
        target[:] = (-np.inf if mode == MAXIMUM and samples else 0.0) if valid else np.nan
        for s in range(samples):
            h, t_h = _between(top + (ph + (s // count_w + 0.5) / count_h) * bin_h, in_h)
            w, t_w = _between(left + (pw + (s % count_w + 0.5) / count_w) * bin_w, in_w)
            if h < 0 or w < 0:
                if mode == MAXIMUM:
                    for i in range(channels):
                        target[i] = np.maximum(target[i], y.dtype.type(0))
                continue
            corner = base + (h * in_w + w) * channels
            right, below = (channels if w < in_w - 1 else 0), (in_w * channels if h < in_h - 1 else 0)
            if mode == MAXIMUM:
                _raise_sample(x, target, corner, right, below, t_h, t_w)
            else:
                _add_sample(x, target, corner, right, below, t_h, t_w)
        if mode != MAXIMUM and samples > 1:
            share = y.dtype.type(1 / samples)
            for i in range(channels):
                target[i] *= share


@kernel
def roi_align(mode, x, rois, images, y, scale, half, ratio, size, out):
    """y (regions, h, w, c) = the mean, or the maximum, of interpolated samples of x in each bin.

    images (regions,) int64: where each region lies. half: corners are moved by half a pixel. ratio: samples along each
    side of a bin; 0: as many as there are pixels. He et al., "Mask R-CNN", 2017.
    """
    for index in prange(out[0] * out[1]):
        line = np.int64(index)
        _align_line(line, mode, x, rois, images, y, scale, half, ratio, size, out)


@serial
def _give(dx, source, corner, right, below, h, w, share):
    """Add to four pixels their part of the gradient of a mean."""
    count, kind = source.size, dx.dtype.type
    for number in range(4):
        weight = kind(share * (h if number // 2 else 1 - h) * (w if number % 2 else 1 - w))
        start = corner + number // 2 * below + number % 2 * right
        target = dx[start : start + count]
        for i in range(count):
            target[i] += weight * source[i]


@serial
def _give_largest(x, dx, source, base, channel, top, left, bin_h, bin_w, count_h, count_w, size):
    """The gradient of a bin's maximum goes to the first pixel that holds it."""
    _, in_h, in_w, channels = size
    for i in range(source.size):
        best, best_at, best_weight = -np.inf, -1, 0.0
        for s in range(count_h * count_w):
            h, t_h = _between(top + (s // count_w + 0.5) / count_h * bin_h, in_h)
            w, t_w = _between(left + (s % count_w + 0.5) / count_w * bin_w, in_w)
            if h < 0 or w < 0:
                if best < 0:
                    best, best_at = 0.0, -1
                continue
            for number in range(4):
                weight = (t_h if number // 2 else 1 - t_h) * (t_w if number % 2 else 1 - t_w)
                at_h, at_w = min(h + number // 2, in_h - 1), min(w + number % 2, in_w - 1)
                place = base + (at_h * in_w + at_w) * channels + channel + i
                if weight * x[place] > best:
                    best, best_at, best_weight = weight * x[place], place, weight
        if best_at >= 0:
            dx[best_at] += dx.dtype.type(best_weight) * source[i]


@serial
def _align_grad_task(image, channel, count, mode, x, rois, images, dy, dx, scale, half, ratio, size, out):
    """All regions of an image, `count` channels."""
    _, in_h, in_w, channels = size
    base = image * in_h * in_w * channels
    for region in range(out[0]):
        if images[region] != image:
            continue
        valid, top, left, bin_h, bin_w, count_h, count_w = _bins(region * 4, rois, scale, half, ratio, out)
        samples = count_h * count_w if valid else 0
        for b in range(out[1] * out[2]):
            place = (region * out[1] * out[2] + b) * channels + channel
            source = dy[place : place + count]
            bin_top, bin_left = top + b // out[2] * bin_h, left + b % out[2] * bin_w
            if mode == MAXIMUM:
                if samples:
                    _give_largest(x, dx, source, base, channel, bin_top, bin_left, bin_h, bin_w, count_h, count_w, size)
                continue
            for s in range(samples):
                h, t_h = _between(bin_top + (s // count_w + 0.5) / count_h * bin_h, in_h)
                w, t_w = _between(bin_left + (s % count_w + 0.5) / count_w * bin_w, in_w)
                if h >= 0 and w >= 0:
                    corner = base + (h * in_w + w) * channels + channel
                    right, below = (channels if w < in_w - 1 else 0), (in_w * channels if h < in_h - 1 else 0)
                    _give(dx, source, corner, right, below, t_h, t_w, 1 / samples)


@kernel
def roi_align_grad(mode, x, rois, images, dy, dx, scale, half, ratio, size, out):
    """Add to dx what each pixel gave to y; x is read for a maximum alone."""
    blocks = (size[3] + CHANNELS - 1) // CHANNELS
    for index in prange(size[0] * blocks):
        task = np.int64(index)
        channel = task % blocks * CHANNELS
        count = min(CHANNELS, size[3] - channel)
        _align_grad_task(task // blocks, channel, count, mode, x, rois, images, dy, dx, scale, half, ratio, size, out)


@serial
def _round(v):
    """To the nearest integer, halves away from zero."""
    return int(np.floor(abs(v) + 0.5)) * (1 if v >= 0 else -1)


@serial
def _corners(at, rois, scale):
    """(whether it is a region, left, top, right, bottom) in pixels."""
    left, top, right, bottom = rois[at + 1] * scale, rois[at + 2] * scale, rois[at + 3] * scale, rois[at + 4] * scale
    return abs(left) + abs(top) + abs(right) + abs(bottom) < FAR, left, top, right, bottom


@serial
def _span(first, last, number, bins, size):
    """The pixels of bin `number` of a side, from its first to one past its last."""
    begin = _round(first)
    length = max(_round(last) - begin + 1, 1) / bins
    low, high = int(np.floor(number * length)) + begin, int(np.ceil((number + 1) * length)) + begin
    return min(max(low, 0), size), min(max(high, 0), size)


@serial
def _pool_line(line, x, rois, y, scale, size, out):
    _, in_h, in_w, channels = size
    region, ph = line // out[1], line % out[1]
    place = line * out[2] * channels
    valid, left, top, right, bottom = _corners(region * 5, rois, scale)
    if not valid:
        y[place : place + out[2] * channels] = np.nan
        return
    begin_h, end_h = _span(top, bottom, ph, out[1], in_h)
    for pw in range(out[2]):
        begin_w, end_w = _span(left, right, pw, out[2], in_w)
        target = y[place + pw * channels : place + (pw + 1) * channels]
        target[:] = -np.inf if begin_h < end_h and begin_w < end_w else 0.0
        for h in range(begin_h, end_h):
            for w in range(begin_w, end_w):
                at = ((int(rois[region * 5]) * in_h + h) * in_w + w) * channels
                source = x[at : at + channels]
                for i in range(channels):
                    target[i] = np.maximum(target[i], source[i])


@kernel
def roi_pool(x, rois, y, scale, size, out):
    """y (regions, h, w, c) = the largest pixel of each bin, 0 where it has none. A row of rois begins with the image.

    Girshick, "Fast R-CNN", 2015.
    """
    for index in prange(out[0] * out[1]):
        line = np.int64(index)
        _pool_line(line, x, rois, y, scale, size, out)


@serial
def _first_of(x, value, base, begin_h, end_h, begin_w, end_w, in_w, channels):
    """Where the first pixel lies that has made a bin's result what it is; -1 for a bin without pixels."""
    for h in range(begin_h, end_h):
        for w in range(begin_w, end_w):
            at = base + (h * in_w + w) * channels
            if x[at] == value or math.isnan(x[at]):
                return at
    return -1


@serial
def _pool_grad_task(image, channel, count, x, rois, y, dy, dx, scale, size, out):
    """All regions of an image, `count` channels."""
    _, in_h, in_w, channels = size
    base = image * in_h * in_w * channels + channel
    for region in range(out[0]):
        valid, left, top, right, bottom = _corners(region * 5, rois, scale)
        if not (valid and image <= rois[region * 5] < image + 1):
            continue
        for b in range(out[1] * out[2]):
            begin_h, end_h = _span(top, bottom, b // out[2], out[1], in_h)
            begin_w, end_w = _span(left, right, b % out[2], out[2], in_w)
            place = (region * out[1] * out[2] + b) * channels + channel
            for i in range(count):
                at = _first_of(x, y[place + i], base + i, begin_h, end_h, begin_w, end_w, in_w, channels)
                if at >= 0:
                    dx[at] += dy[place + i]


@kernel
def roi_pool_grad(x, rois, y, dy, dx, scale, size, out):
    """Add to dx, for each bin, dy where the first of its pixels lies that is y (or NaN)."""
    blocks = (size[3] + CHANNELS - 1) // CHANNELS
    for index in prange(size[0] * blocks):
        task = np.int64(index)
        channel = task % blocks * CHANNELS
        count = min(CHANNELS, size[3] - channel)
        _pool_grad_task(task // blocks, channel, count, x, rois, y, dy, dx, scale, size, out)
