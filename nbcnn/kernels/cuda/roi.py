"""Regions of interest: a grid of `out` (regions, h, w) bins from each, of activations that lie channels last.

x has `size` (images, h, w, channels). A region is a row of corners x1, y1, x2, y2 in `rois`, times `scale`. Regions of
images that there are not give NaN. Each thread takes a bin, or a pixel, for one channel or four (channels.py).
"""

from __future__ import annotations

import math

import numpy as np

from nbcnn.kernels.cuda._cuda import cuda, device, kernel, spread
from nbcnn.kernels.cuda.channels import columns, lanes_of, larger
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.memory import get
from nbcnn.kernels.opcodes import MAXIMUM

__all__ = ["roi_align", "roi_align_grad", "roi_pool", "roi_pool_grad"]

FAR = 1e6
"""Corners further out than so, and those that are no numbers, make bins that are no numbers."""


@device
def _bins(at, rois, scale, half, ratio, out):
    """(whether it is a region, start, size of a bin, samples in a bin), the last three along h and w."""
    # Corners are moved by half a pixel, or else a region is no smaller than a pixel.
    offset = 0.5 if half else 0.0
    left, top = get(rois, at) * scale - offset, get(rois, at + 1) * scale - offset
    width, height = get(rois, at + 2) * scale - offset - left, get(rois, at + 3) * scale - offset - top
    if not abs(left) + abs(top) + abs(width) + abs(height) < FAR:
        return False, top, left, height, width, 0, 0
    if not half:
        width, height = max(width, 1.0), max(height, 1.0)
    height, width = height / out[1], width / out[2]
    if ratio > 0:
        return True, top, left, height, width, ratio, ratio
    return True, top, left, height, width, max(np.int64(math.ceil(height)), 0), max(np.int64(math.ceil(width)), 0)


@device
def _between(v, size):
    """(pixel, how far v lies from it to the next), or (-1, 0) outside of the picture."""
    if not -1.0 <= v <= size:
        return -1, 0.0
    v = max(v, 0.0)
    low = min(int(v), size - 1)
    return low, v - low if low < size - 1 else 0.0


@device
def _sample(start, bin_size, number, count, size):
    """_between of sample `number` of `count` along a side of a bin."""
    return _between(start + (number + 0.5) / count * bin_size, size)


@device
def _bin_of(i, size, out):
    """The region, ph, pw and channel of an element of the output."""
    place = divide(i, size[3])
    line = divide(place, out[2])
    return divide(line, out[1]), remainder(line, out[1]), remainder(place, out[2]), i - place * size[3]


@kernel
def _align(mode, x, rois, images, y, count, scale, half, ratio, size, out):
    i = cuda.grid(1)
    while i < count:
        _, in_h, in_w, channels = size
        region, ph, pw, channel = _bin_of(i, size, out)
        valid, top, left, bin_h, bin_w, count_h, count_w = _bins(region * 4, rois, scale, half, ratio, out)
        image, samples, kind = get(images, region), count_h * count_w, y.dtype.type
        valid = valid and 0 <= image < size[0]
        total = kind(-math.inf if mode == MAXIMUM and samples > 0 else 0.0)
        for s in range(samples if valid else 0):
            h, t_h = _sample(top + ph * bin_h, bin_h, divide(s, count_w), count_h, in_h)
            w, t_w = _sample(left + pw * bin_w, bin_w, remainder(s, count_w), count_w, in_w)
            if h < 0 or w < 0:
                if mode == MAXIMUM:
                    total = larger(total, kind(0))
                continue
            corner = ((image * in_h + h) * in_w + w) * channels + channel
            right, below = (channels if w < in_w - 1 else 0), (in_w * channels if h < in_h - 1 else 0)
            a = kind((1 - t_h) * (1 - t_w)) * get(x, corner)
            b = kind((1 - t_h) * t_w) * get(x, corner + right)
            c = kind(t_h * (1 - t_w)) * get(x, corner + below)
            d = kind(t_h * t_w) * get(x, corner + below + right)
            if mode == MAXIMUM:
                total = larger(total, larger(larger(a, b), larger(c, d)))
            else:
                total += a + b + c + d
        if mode != MAXIMUM and samples > 1:
            total *= kind(1 / samples)
        y[i] = total if valid else kind(math.nan)
        i += cuda.gridsize(1)


def roi_align(mode, x, rois, images, y, scale, half, ratio, size, out):
    """y (regions, h, w, c) = the mean, or the maximum, of interpolated samples of x in each bin.

    images (regions,) int64: where each region lies. half: corners are moved by half a pixel. ratio: samples along each
    side of a bin; 0: as many as there are pixels. He et al., "Mask R-CNN", 2017.
    """
    count = out[0] * out[1] * out[2] * size[3]
    spread(_align, count, mode, x, rois, images, y, count, scale, half, ratio, size, out)


# --- the gradient -----------------------------------------------------------------------------------------------------


@device
def _weight(pixel, start, bin_size, count, size):
    """What the samples along a side of a bin give a pixel, in all."""
    total = 0.0
    # Samples a pixel away or more do not reach it; those before the picture are taken to its first one.
    first, last = start + 0.5 / count * bin_size, start + (count - 0.5) / count * bin_size
    if min(first, last) <= pixel + 1.0 and (max(first, last) > pixel - 1.0 or pixel == 0):
        for s in range(count):
            low, t = _sample(start, bin_size, s, count, size)
            if low == pixel:
                total += 1.0 - t
            elif low >= 0 and low + 1 == pixel:
                total += t
    return total


@kernel
def _mean_grad(rois, images, dy, dx, count, lanes, scale, half, ratio, size, out):
    i = cuda.grid(1)
    while i < count:
        _, in_h, in_w, channels = size
        pixel, lane, kind = divide(i, lanes), remainder(i, lanes), dx.dtype.type
        line, (p, q, r, s) = divide(pixel, in_w), columns(lane, lanes, channels)
        image, h, w = divide(line, in_h), remainder(line, in_h), remainder(pixel, in_w)
        a = b = c = d = kind(0)
        for region in range(out[0]):
            if get(images, region) != image:
                continue
            valid, top, left, bin_h, bin_w, count_h, count_w = _bins(region * 4, rois, scale, half, ratio, out)
            if not valid or count_h * count_w == 0:
                continue
            for ph in range(out[1]):
                weight_h = _weight(h, top + ph * bin_h, bin_h, count_h, in_h)
                if weight_h == 0:
                    continue
                for pw in range(out[2]):
                    weight_w = _weight(w, left + pw * bin_w, bin_w, count_w, in_w)
                    if weight_w != 0:
                        weight = kind(weight_h * weight_w / (count_h * count_w))
                        at = ((region * out[1] + ph) * out[2] + pw) * channels
                        a, b = a + weight * get(dy, at + p), b + weight * get(dy, at + q)
                        c, d = c + weight * get(dy, at + r), d + weight * get(dy, at + s)
        # What is added to must be added to once: columns past the last one are left out.
        place = pixel * channels
        dx[place + p] += a
        if lane + lanes < channels:
            dx[place + q] += b
        if lane + 2 * lanes < channels:
            dx[place + r] += c
        if lane + 3 * lanes < channels:
            dx[place + s] += d
        i += cuda.gridsize(1)


@device
def _largest(x, base, top, left, bins, size):
    """The first pixel whose weighted value is a bin's maximum, counted within its picture, or -1; and its weight."""
    _, in_h, in_w, channels = size
    bin_h, bin_w, count_h, count_w = bins
    best, best_at, best_weight = -math.inf, -1, 0.0
    for s in range(count_h * count_w):
        h, t_h = _sample(top, bin_h, divide(s, count_w), count_h, in_h)
        w, t_w = _sample(left, bin_w, remainder(s, count_w), count_w, in_w)
        if h < 0 or w < 0:
            if best < 0.0:
                best, best_at = 0.0, -1
            continue
        for number in range(4):
            below, right = number >> 1, number & 1
            weight = (t_h if below else 1.0 - t_h) * (t_w if right else 1.0 - t_w)
            place = min(h + below, in_h - 1) * in_w + min(w + right, in_w - 1)
            value = weight * get(x, base + place * channels)
            if value > best:
                best, best_at, best_weight = value, place, weight
    return best_at, best_weight


@kernel
def _maximum_grad(x, rois, images, dy, dx, count, scale, half, ratio, size, out):
    i = cuda.grid(1)
    while i < count:
        _, in_h, in_w, channels = size
        pixel = divide(i, channels)
        line, channel = divide(pixel, in_w), i - pixel * channels
        image, h, w = divide(line, in_h), remainder(line, in_h), remainder(pixel, in_w)
        base = image * in_h * in_w * channels + channel
        total, kind = dx[i], dx.dtype.type
        for region in range(out[0]):
            if get(images, region) != image:
                continue
            valid, top, left, bin_h, bin_w, count_h, count_w = _bins(region * 4, rois, scale, half, ratio, out)
            if not valid or count_h * count_w == 0:
                continue
            for b in range(out[1] * out[2]):
                bin_top, bin_left = top + divide(b, out[2]) * bin_h, left + remainder(b, out[2]) * bin_w
                # Most bins do not reach the pixel. One at the edge stands for what lies beyond it.
                reaches = _reaches(h, bin_top, bin_h, in_h) and _reaches(w, bin_left, bin_w, in_w)
                if reaches:
                    at, weight = _largest(x, base, bin_top, bin_left, (bin_h, bin_w, count_h, count_w), size)
                    if at == h * in_w + w:
                        total += kind(weight) * get(dy, (region * out[1] * out[2] + b) * channels + channel)
        dx[i] = total
        i += cuda.gridsize(1)


@device
def _reaches(pixel, start, bin_size, size):
    """Whether samples of a bin may touch a pixel."""
    low, high = min(start, start + bin_size), max(start, start + bin_size)
    return (high > pixel - 1.0 or pixel == 0) and (low < pixel + 1.0 or pixel == size - 1)


def roi_align_grad(mode, x, rois, images, dy, dx, scale, half, ratio, size, out):
    """Add to dx what each pixel gave to y; x is read for a maximum alone.

    Every pixel gathers from the bins that it is part of, region after region.
    """
    count = size[0] * size[1] * size[2] * size[3]
    how = (scale, half, ratio, size, out)
    if mode == MAXIMUM:
        spread(_maximum_grad, count, x, rois, images, dy, dx, count, *how)
    else:
        lanes = lanes_of(size[3])
        threads = size[0] * size[1] * size[2] * lanes
        spread(_mean_grad, threads, rois, images, dy, dx, threads, lanes, *how)


# --- MaxRoiPool -------------------------------------------------------------------------------------------------------


@device
def _round(v):
    """To the nearest integer, halves away from zero."""
    return np.int64(math.floor(abs(v) + 0.5)) * (1 if v >= 0 else -1)


@device
def _span(first, last, number, bins, size):
    """The pixels of bin `number` of a side, from its first to one past its last."""
    begin = _round(first)
    length = max(_round(last) - begin + 1, 1) / bins
    low, high = np.int64(math.floor(number * length)) + begin, np.int64(math.ceil((number + 1) * length)) + begin
    return min(max(low, 0), size), min(max(high, 0), size)


@device
def _corners(at, rois, scale):
    """(whether it is a region, left, top, right, bottom) in pixels."""
    left, top = get(rois, at + 1) * scale, get(rois, at + 2) * scale
    right, bottom = get(rois, at + 3) * scale, get(rois, at + 4) * scale
    return abs(left) + abs(top) + abs(right) + abs(bottom) < FAR, left, top, right, bottom


@kernel
def _pool(x, rois, y, count, scale, size, out):
    i = cuda.grid(1)
    while i < count:
        images, in_h, in_w, channels = size
        region, ph, pw, channel = _bin_of(i, size, out)
        image, value = get(rois, region * 5), y.dtype.type(math.nan)
        valid, left, top, right, bottom = _corners(region * 5, rois, scale)
        if valid and 0 <= image < images:
            begin_h, end_h = _span(top, bottom, ph, out[1], in_h)
            begin_w, end_w = _span(left, right, pw, out[2], in_w)
            value = y.dtype.type(-math.inf if begin_h < end_h and begin_w < end_w else 0.0)
            for h in range(begin_h, end_h):
                for w in range(begin_w, end_w):
                    value = larger(value, get(x, ((int(image) * in_h + h) * in_w + w) * channels + channel))
        y[i] = value
        i += cuda.gridsize(1)


def roi_pool(x, rois, y, scale, size, out):
    """y (regions, h, w, c) = the largest pixel of each bin, 0 where it has none. A row of rois begins with the image.

    Girshick, "Fast R-CNN", 2015.
    """
    count = out[0] * out[1] * out[2] * size[3]
    spread(_pool, count, x, rois, y, count, scale, size, out)


@device
def _is_first(x, base, h, w, begin_h, begin_w, end_w, in_w, channels):
    """Whether no pixel of the bin that lies before this one has its value, or is NaN."""
    value = get(x, base + (h * in_w + w) * channels)
    for row in range(begin_h, h + 1):
        for column in range(begin_w, w if row == h else end_w):
            other = get(x, base + (row * in_w + column) * channels)
            if other == value or math.isnan(other):
                return False
    return True


@kernel
def _pool_grad(x, rois, y, dy, dx, count, scale, size, out):
    i = cuda.grid(1)
    while i < count:
        _, in_h, in_w, channels = size
        pixel = divide(i, channels)
        line, channel = divide(pixel, in_w), i - pixel * channels
        image, h, w = divide(line, in_h), remainder(line, in_h), remainder(pixel, in_w)
        base, value, total = image * in_h * in_w * channels + channel, get(x, i), dx[i]
        for region in range(out[0]):
            valid, left, top, right, bottom = _corners(region * 5, rois, scale)
            if not (valid and image <= get(rois, region * 5) < image + 1):
                continue
            for ph in range(out[1]):
                begin_h, end_h = _span(top, bottom, ph, out[1], in_h)
                if not begin_h <= h < end_h:
                    continue
                for pw in range(out[2]):
                    begin_w, end_w = _span(left, right, pw, out[2], in_w)
                    if not begin_w <= w < end_w:
                        continue
                    at = ((region * out[1] + ph) * out[2] + pw) * channels + channel
                    holds = value == get(y, at) or math.isnan(value)
                    if holds and _is_first(x, base, h, w, begin_h, begin_w, end_w, in_w, channels):
                        total += get(dy, at)
        dx[i] = total
        i += cuda.gridsize(1)


def roi_pool_grad(x, rois, y, dy, dx, scale, size, out):
    """Add to dx, for each bin, dy where the first of its pixels lies that is y (or NaN).

    Every pixel gathers from the bins that it is part of, region after region.
    """
    count = size[0] * size[1] * size[2] * size[3]
    spread(_pool_grad, count, x, rois, y, dy, dx, count, scale, size, out)
