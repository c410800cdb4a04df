"""Weighted sums of pixels, wherever they lie: what sampling.py's taps are for, and the two gradients.

Pixels lie channels last. `places` (points, sets, taps) says which pixel each tap reads, -1 for none; `weights` its
weight. A point's channels are made in `chunks`, (set, first channel of x, first channel of y) each, of `run` channels:
all from the taps of one set. `form` is (points, sets, taps, run, x_pitch, y_pitch).
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = ["blend", "blend_input_grad", "blend_products"]

POINTS = 32
"""Points of a task."""
CHANNELS = 32
"""Channels of a task of the gradient by x, which goes through all points of an image."""


@serial
def _add_four(x, target, at, places, weights, pitch, channel):
    """target += the first four taps from `at` on."""
    count = target.size
    start = places[at] * pitch + channel
    a = x[start : start + count]
    start = places[at + 1] * pitch + channel
    b = x[start : start + count]
    start = places[at + 2] * pitch + channel
    c = x[start : start + count]
    start = places[at + 3] * pitch + channel
    d = x[start : start + count]
    w_a, w_b, w_c, w_d = weights[at], weights[at + 1], weights[at + 2], weights[at + 3]
    for i in range(count):
        target[i] += w_a * a[i] + w_b * b[i] + w_c * c[i] + w_d * d[i]


@serial
def _blend_run(x, target, at, taps, places, weights, pitch, channel):
    """target = the weighted sum of `taps` taps from `at` on."""
    target[:] = 0
    last, count = at + taps, target.size
    while at < last:
        if last - at >= 4 and min(places[at], places[at + 1], places[at + 2], places[at + 3]) >= 0:
            _add_four(x, target, at, places, weights, pitch, channel)
            at += 4
            continue
        if places[at] >= 0:
            start, weight = places[at] * pitch + channel, weights[at]
            source = x[start : start + count]
            for i in range(count):
                target[i] += weight * source[i]
        at += 1


@serial
def _blend_points(first, last, x, y, places, weights, chunks, form):
    _, sets, taps, run, x_pitch, y_pitch = form
    for point in range(first, last):
        for j in range(0, chunks.size, 3):
            start = point * y_pitch + chunks[j + 2]
            at = (point * sets + chunks[j]) * taps
            _blend_run(x, y[start : start + run], at, taps, places, weights, x_pitch, chunks[j + 1])


@kernel
def blend(x, y, places, weights, chunks, form):
    """y (points, y_pitch) = the sums of pixels of x (pixels, x_pitch)."""
    for index in prange((form[0] + POINTS - 1) // POINTS):
        first = np.int64(index) * POINTS
        _blend_points(first, min(first + POINTS, form[0]), x, y, places, weights, chunks, form)


@serial
def _scatter(first, last, channel, count, dy, dx, places, weights, chunks, form):
    """Points first..last, `count` channels of every chunk."""
    _, sets, taps, _, x_pitch, y_pitch = form
    for point in range(first, last):
        for j in range(0, chunks.size, 3):
            start = point * y_pitch + chunks[j + 2] + channel
            source = dy[start : start + count]
            at = (point * sets + chunks[j]) * taps
            for tap in range(at, at + taps):
                if places[tap] >= 0:
                    start = places[tap] * x_pitch + chunks[j + 1] + channel
                    target, weight = dx[start : start + count], weights[tap]
                    for i in range(count):
                        target[i] += weight * source[i]


@kernel
def blend_input_grad(dy, dx, places, weights, chunks, form, images):
    """Add to dx (pixels, x_pitch) what each pixel gave to y; no point reads pixels of another image than its own."""
    blocks = (form[3] + CHANNELS - 1) // CHANNELS
    points = form[0] // images
    for index in prange(images * blocks):
        task = np.int64(index)
        image, channel = task // blocks, task % blocks * CHANNELS
        count = min(CHANNELS, form[3] - channel)
        _scatter(image * points, (image + 1) * points, channel, count, dy, dx, places, weights, chunks, form)


@serial
def _dot(a, b):
    total = a.dtype.type(0)
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@serial
def _product_points(first, last, x, dy, places, products, chunks, form):
    _, sets, taps, run, x_pitch, y_pitch = form
    products[first * sets * taps : last * sets * taps] = 0
    for point in range(first, last):
        for j in range(0, chunks.size, 3):
            start = point * y_pitch + chunks[j + 2]
            given = dy[start : start + run]
            at = (point * sets + chunks[j]) * taps
            for tap in range(at, at + taps):
                if places[tap] >= 0:
                    start = places[tap] * x_pitch + chunks[j + 1]
                    products[tap] += _dot(x[start : start + run], given)


@kernel
def blend_products(x, dy, places, products, chunks, form):
    """products (points, sets, taps) = what each tap reads times dy of what it gives to, summed over channels."""
    for index in prange((form[0] + POINTS - 1) // POINTS):
        first = np.int64(index) * POINTS
        _product_points(first, min(first + POINTS, form[0]), x, dy, places, products, chunks, form)
