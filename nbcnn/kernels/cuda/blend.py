"""Weighted sums of pixels, wherever they lie: what sample.py's taps are for, and the two gradients.

See kernels/cpu/blend.py for `places`, `weights`, `chunks` and `form`.
"""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, kernel, launch, spread, types
from nbcnn.kernels.cuda.chains import TILE, link, width_of
from nbcnn.kernels.cuda.channels import columns, lanes_of
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.memory import get

__all__ = ["blend", "blend_input_grad", "blend_products"]

BLOCKS = 512
"""Blocks that fill a GPU, about: the gradient by x shares out an image's pixels among as many."""
LANES = 32
"""Threads that sum one product."""


@kernel
def _blend(x, y, places, weights, chunks, form, count, lanes):
    i = cuda.grid(1)
    while i < count:
        _, sets, taps, run, x_pitch, y_pitch = form
        row, number = divide(i, lanes), divide(chunks.size, 3)
        p, q, r, s = columns(remainder(i, lanes), lanes, run)
        point, chunk = divide(row, number), 3 * remainder(row, number)
        tap = (point * sets + get(chunks, chunk)) * taps
        last = tap + taps
        a = b = c = d = y.dtype.type(0)
        while tap < last:
            place, weight = get(places, tap), get(weights, tap)
            if place >= 0:
                at = place * x_pitch + get(chunks, chunk + 1)
                a, b = a + weight * get(x, at + p), b + weight * get(x, at + q)
                c, d = c + weight * get(x, at + r), d + weight * get(x, at + s)
            tap += 1
        at = point * y_pitch + get(chunks, chunk + 2)
        y[at + p], y[at + q], y[at + r], y[at + s] = a, b, c, d
        i += cuda.gridsize(1)


def blend(x, y, places, weights, chunks, form):
    """y (points, y_pitch) = the sums of pixels of x (pixels, x_pitch)."""
    lanes = lanes_of(form[3])
    count = form[0] * (chunks.size // 3) * lanes
    spread(_blend, count, x, y, places, weights, chunks, form, count, lanes)


@kernel
def _scatter(dy, dx, places, weights, chunks, form, parts, pixels, width, strips):
    keys = cuda.shared.array(TILE, types.int64)
    sources = cuda.shared.array(TILE, types.int64)
    factors = cuda.shared.array(TILE, types.float64)
    following = cuda.shared.array(TILE, types.int32)
    leads = cuda.shared.array(TILE, types.boolean)
    _, sets, taps, run, x_pitch, y_pitch = form
    thread, number = cuda.threadIdx.x, divide(chunks.size, 3)
    group, column = (
        divide(cuda.blockIdx.x, strips),
        remainder(cuda.blockIdx.x, strips) * width + remainder(thread, width),
    )
    image = divide(group, parts)
    low = image * pixels[0] + remainder(group, parts) * pixels[1]
    high = min(low + pixels[1], (image + 1) * pixels[0])
    count = pixels[2] * number * taps
    for start in range(0, count, TILE):
        entry = start + thread
        keys[thread] = -1
        if entry < count:
            row = divide(entry, taps)
            point, chunk = image * pixels[2] + divide(row, number), 3 * remainder(row, number)
            tap = (point * sets + get(chunks, chunk)) * taps + remainder(entry, taps)
            place = get(places, tap)
            if low <= place < high:
                keys[thread] = place * x_pitch + get(chunks, chunk + 1)
                sources[thread] = point * y_pitch + get(chunks, chunk + 2)
                factors[thread] = get(weights, tap)
        if not cuda.syncthreads_or(np.int32(keys[thread] >= 0)):
            continue
        link(keys, following, leads, thread)
        cuda.syncthreads()
        lead = divide(thread, width)
        while lead < TILE:
            if leads[lead] and column < run:
                at, member = keys[lead] + column, lead
                value = dx[at]
                while member >= 0:
                    value += dx.dtype.type(factors[member]) * get(dy, sources[member] + column)
                    member = following[member]
                dx[at] = value
            lead += divide(TILE, width)
        cuda.syncthreads()


def blend_input_grad(dy, dx, places, weights, chunks, form, images):
    """Add to dx (pixels, x_pitch) what each pixel gave to y; no point reads pixels of another image than its own.

    Each block goes through all taps of an image in order and takes those of its own part of the pixels (chains.py).
    """
    pixels, width = dx.size // max(form[4] * images, 1), width_of(form[3])
    strips = -(-form[3] // width)
    parts = max(min(BLOCKS // max(images * strips, 1), -(-pixels // TILE)), 1)
    share = -(-pixels // parts)
    how = (form, parts, (pixels, share, form[0] // max(images, 1)), width, strips)
    launch(_scatter, images * parts * strips, TILE, dy, dx, places, weights, chunks, *how)


@kernel
def _products(x, dy, places, products, chunks, form, count, lanes):
    shared = cuda.shared.array(BLOCK, types.float64)
    _, sets, taps, run, x_pitch, y_pitch = form
    thread = cuda.threadIdx.x
    lane, number = remainder(thread, lanes), divide(BLOCK, lanes)
    for first in range(cuda.blockIdx.x * number, count, cuda.gridDim.x * number):
        tap = first + divide(thread, lanes)
        total = products.dtype.type(0)
        place = get(places, tap) if tap < count else -1
        if place >= 0:
            row = divide(tap, taps)
            point = divide(row, sets)
            for chunk in range(0, chunks.size, 3):
                if get(chunks, chunk) == row - point * sets:
                    at, given = place * x_pitch + get(chunks, chunk + 1), point * y_pitch + get(chunks, chunk + 2)
                    for channel in range(lane, run, lanes):
                        total += get(x, at + channel) * get(dy, given + channel)
        shared[thread] = total
        reach = lanes >> 1
        while reach > 0:
            cuda.syncthreads()
            if lane < reach:
                shared[thread] += shared[thread + reach]
            reach >>= 1
        if lane == 0 and tap < count:
            products[tap] = shared[thread]
        cuda.syncthreads()


def blend_products(x, dy, places, products, chunks, form):
    """products (points, sets, taps) = what each tap reads times dy of what it gives to, summed over channels."""
    count = form[0] * form[1] * form[2]
    lanes = min(LANES, BLOCK, 1 << max(form[3] - 1, 0).bit_length())
    launch(
        _products,
        min(-(-count * lanes // BLOCK), 8 * BLOCKS),
        BLOCK,
        x,
        dy,
        places,
        products,
        chunks,
        form,
        count,
        lanes,
    )
