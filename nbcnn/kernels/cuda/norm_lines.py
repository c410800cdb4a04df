"""Normalization where what is brought together lies side by side: x is (lines, width), a statistic for each line.

The lanes of a block share out a line, and read it again when its statistics are known: by then it lies in a cache. Sums
are made in float64, squared distances as in moments.py. `dims` is (lines, width, groups, repeat): scale and bias go on
from line to line of `groups` lines, and each of their elements belongs to `repeat` neighbours. `settings` is (count,
inside, outside): a sum is divided by `count`, its root taken of what `inside` is added to, and `outside` is added to
the root.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, device, kernel, launch, types
from nbcnn.kernels.cuda.block import sum_lanes, threads_for
from nbcnn.kernels.cuda.columns import (
    blocks_of,
    column_of,
    column_threads,
    column_totals,
    merge_shape,
    stripe_of,
)
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.moments import join, thread_moments
from nbcnn.kernels.opcodes import DEVIATION, LENGTH, SIZE

__all__ = ["inverse_of", "norm_lines", "norm_lines_grad", "norm_lines_parameters", "slopes"]


@device
def inverse_of(kind, total, settings):
    """What to multiply with, from the sum that `kind` says; nothing (0) where all elements are 0."""
    count, inside, outside = settings
    root = (total if kind == SIZE else sqrt(total / count + inside)) + outside
    return 0.0 if root == 0 else 1 / root


@device
def _share(dims):
    """Of a thread: its line, which of the line's elements is its first, and how many it takes, blockDim.y apart."""
    line, lane = cuda.blockIdx.x * cuda.blockDim.z + cuda.threadIdx.z, cuda.threadIdx.y
    inside = line < dims[0] and lane < dims[1]
    return line, lane, divide(dims[1] - lane + cuda.blockDim.y - 1, cuda.blockDim.y) if inside else 0


@device
def _total(kind, x, at, count, step):
    """The sum of squares or of absolute values."""
    total = 0.0
    for _ in range(count):
        total += np.float64(x[at] * x[at]) if kind == LENGTH else np.float64(abs(x[at]))
        at += step
    return total


@kernel
def _lines(kind, x, scale, bias, y, mean, inverse, dims, settings):
    shared = cuda.shared.array(BLOCK, types.float64)
    width, groups, repeat = dims[1], dims[2], dims[3]
    line, first, count = _share(dims)
    at, step, middle = np.uint64(line * width + first), np.uint64(cuda.blockDim.y), 0.0
    if kind == DEVIATION:
        center, squares = thread_moments(x, at, count, step)
        middle, total = join(shared, count, center, squares, width)
    else:
        total = sum_lanes(shared, _total(kind, x, at, count, step))
    factor = inverse_of(kind, total, settings)
    if first == 0 and count > 0:
        mean[line], inverse[line] = middle, factor
    about, gain = x.dtype.type(middle), x.dtype.type(factor)
    base = remainder(line, groups) * divide(width, repeat)
    for k in range(count):
        value = (x[at] - about) * gain
        if scale.size > 0:
            p = base + divide(first + k * cuda.blockDim.y, repeat)
            value = value * scale[p] + bias[p]
        y[at] = value
        at += step


def norm_lines(kind, x, scale, bias, y, mean, inverse, dims, settings):
    """y = (x - mean) * inverse * scale + bias. mean (lines) is 0 for all kinds but DEVIATION; y may be x. scale and
    bias (groups * width / repeat) are both there or both empty.
    """
    threads = threads_for(1, dims[1])
    blocks = -(-dims[0] // threads[2])
    launch(_lines, blocks, threads, kind, x, scale, bias, y, mean, inverse, dims, settings)


# --- gradients --------------------------------------------------------------------------------------------------------


@device
def slopes(kind, plain, product, inverse, settings):
    """What (x - mean) is multiplied with in the gradient, and what is added, from the sums of dy * scale and of
    dy * scale * (x - mean) over what was brought together.
    """
    if kind == SIZE:
        return -inverse * inverse * product, 0.0
    slope = -inverse * inverse * inverse * product / settings[0]
    return slope, -inverse * plain / settings[0] if kind == DEVIATION else 0.0


@kernel
def _lines_grad(kind, dy, x, scale, mean, inverse, dx, dims, settings):
    shared = cuda.shared.array(BLOCK, types.float64)
    width, groups, repeat = dims[1], dims[2], dims[3]
    line, first, count = _share(dims)
    start, step = np.uint64(line * width + first), np.uint64(cuda.blockDim.y)
    zero = x.dtype.type(0)
    about, factor = (mean[line], inverse[line]) if count > 0 else (zero, zero)
    base, plain, product, at = remainder(line, groups) * divide(width, repeat), 0.0, 0.0, start
    for k in range(count):
        grad = dy[at]
        if scale.size > 0:
            grad *= scale[base + divide(first + k * cuda.blockDim.y, repeat)]
        plain += np.float64(grad)
        product += np.float64(grad * (x[at] - about))
        at += step
    along, move = slopes(kind, sum_lanes(shared, plain), sum_lanes(shared, product), np.float64(factor), settings)
    slope, shift, at = x.dtype.type(along), x.dtype.type(move), start
    for k in range(count):
        grad, value = dy[at] * factor, x[at]
        if scale.size > 0:
            grad *= scale[base + divide(first + k * cuda.blockDim.y, repeat)]
        if kind == SIZE:  # by the sign of x instead of x
            dx[at] = grad + (slope if value > zero else (-slope if value < zero else zero))
        else:
            dx[at] = grad + ((value - about) * slope + shift)
        at += step


def norm_lines_grad(kind, dy, x, scale, mean, inverse, dx, dims, settings):
    """dx = inverse * (g - mean of g - (x - mean) * inverse * mean of g * (x - mean) * inverse), where g is dy * scale;
    without the mean of g for all kinds but DEVIATION. dx may be dy or x. mean, inverse: as `norm_lines` left them.
    """
    threads = threads_for(1, dims[1])
    blocks = -(-dims[0] // threads[2])
    launch(_lines_grad, blocks, threads, kind, dy, x, scale, mean, inverse, dx, dims, settings)


@kernel
def _column_sums(dy, x, mean, inverse, partials, whole, parts, groups, width):
    """Where each element of scale belongs to one element of a row (of `groups` lines)."""
    shared = cuda.shared.array(BLOCK, types.float64)
    c, part, _image, count, at, step = stripe_of(whole, parts)
    plain, product, columns = 0.0, 0.0, whole[2]
    line = (part * cuda.blockDim.y + cuda.threadIdx.y) * groups + divide(c, width)
    for _ in range(count):
        grad = dy[at]
        plain += np.float64(grad)
        product += np.float64(grad * ((x[at] - mean[line]) * inverse[line]))
        at += step
        line += parts * cuda.blockDim.y * groups
    plain, product = sum_lanes(shared, plain), sum_lanes(shared, product)
    if cuda.threadIdx.y == 0 and c < columns:
        partials[part * 2 * columns + c] = plain
        partials[(part * 2 + 1) * columns + c] = product


@kernel
def _run_sums(dy, x, mean, inverse, partials, channels, runs, width, repeat):
    """Where it belongs to a run of `repeat` elements, of which there are `runs`, `channels` in each part."""
    shared = cuda.shared.array(BLOCK, types.float64)
    run, lane = cuda.blockIdx.x * cuda.blockDim.z + cuda.threadIdx.z, cuda.threadIdx.y
    inside, plain, product = run < runs, 0.0, 0.0
    line = divide(run * repeat, width) if inside else 0
    center = mean[line]
    for i in range(run * repeat + lane, (run + 1) * repeat if inside else 0, cuda.blockDim.y):
        plain += np.float64(dy[i])
        product += np.float64(dy[i] * (x[i] - center))
    plain, product = sum_lanes(shared, plain), sum_lanes(shared, product)
    if lane == 0 and inside:
        at = divide(run, channels) * 2 * channels + remainder(run, channels)
        partials[at] = plain
        partials[at + channels] = product * np.float64(inverse[line])


@kernel
def _merge(partials, dscale, dbias, columns, parts):
    shared = cuda.shared.array(BLOCK, types.float64)
    _image, c = column_of(columns)
    plain, product = column_totals(shared, partials, 0, c, parts, columns)
    if cuda.threadIdx.y == 0 and c < columns:
        dscale[c], dbias[c] = product, plain


def norm_lines_parameters(dy, x, mean, inverse, dscale, dbias, partials, dims, block):
    """dscale = sum of dy * (x - mean) * inverse, dbias = sum of dy, over all that each element of scale belongs to.

    partials: scratch in float64, 2 * channels for each part, where channels = groups * width / repeat. A part is a
    stripe of rows of `groups` lines, about `block` of them, where repeat is 1, and one such row otherwise.
    """
    lines, width, groups, repeat = dims
    channels, rows = groups * (width // repeat), lines // groups
    whole, parts = (1, rows, channels), -(-rows // block) if repeat == 1 else rows
    if repeat == 1:
        threads = column_threads(channels)
        blocks = blocks_of(whole, parts, threads)
        launch(_column_sums, blocks, threads, dy, x, mean, inverse, partials, whole, parts, groups, width)
    else:
        threads, runs = threads_for(1, repeat), rows * channels
        blocks = -(-runs // threads[2])
        launch(_run_sums, blocks, threads, dy, x, mean, inverse, partials, channels, runs, width, repeat)
    blocks, threads = merge_shape(whole)
    launch(_merge, blocks, threads, partials, dscale, dbias, channels, parts)
