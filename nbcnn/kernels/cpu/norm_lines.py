"""Normalization where what is brought together lies side by side: x is (lines, width), a statistic for each line.

Lines are read in blocks of fixed size that stay in the cache, in the element type; blocks are added up in float64, in
their order. `dims` is (lines, width, groups, repeat): scale and bias go on from line to line of `groups` lines, and
each of their elements belongs to `repeat` neighbours. `settings` is (count, inside, outside): a sum is divided by
`count`, its root taken of what `inside` is added to, and `outside` is added to the root.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import inlined, kernel, serial
from nbcnn.kernels.cpu.part import part
from nbcnn.kernels.opcodes import DEVIATION, LENGTH, SIZE

__all__ = ["inverse_of", "norm_lines", "norm_lines_grad", "norm_lines_parameters"]

BLOCK = 4096
"""Elements that are summed in their own type, and read twice from the L1 cache."""
TASK = 16384
"""Elements that one task is worth."""
COLUMNS = 1024
"""Columns of one task of a sum over lines."""


@serial
def inverse_of(kind, total, settings):
    """What to multiply with, from the sum that `kind` says; nothing (0) where all elements are 0."""
    count, inside, outside = settings
    root = (total if kind == SIZE else math.sqrt(total / count + inside)) + outside
    return 0.0 if root == 0 else 1 / root


@inlined
def _moments(x):
    """Mean of a block, and sum of squared distances from it."""
    total = x.dtype.type(0)
    for i in range(x.size):
        total += x[i]
    mean = total / x.dtype.type(x.size)
    squares = x.dtype.type(0)
    for i in range(x.size):
        squares += (x[i] - mean) * (x[i] - mean)
    return mean, squares


@serial
def _distances(x, about):
    """Sums of distances from a number, and of their squares, over a block: it is read once, and where its mean lies far
    from that number, so much is added to the line's total that what cancels does not count.
    """
    plain, squares = x.dtype.type(0), x.dtype.type(0)
    for i in range(x.size):
        plain += x[i] - about
        squares += (x[i] - about) * (x[i] - about)
    return plain, squares


@serial
def _total(kind, x):
    """The sum of squares or of absolute values of a block."""
    total = x.dtype.type(0)
    if kind == LENGTH:
        for i in range(x.size):
            total += x[i] * x[i]
    else:
        for i in range(x.size):
            total += abs(x[i])
    return total


@inlined
def _statistics(kind, x):
    """Center (0 for all kinds but DEVIATION) and sum of a line, in float64. Moments of blocks are brought together as
    Chan, Golub and LeVeque do ("Updating Formulae and a Pairwise Algorithm", 1979).
    """
    center, total, seen = 0.0, 0.0, 0
    for begin in range(0, x.size, BLOCK):
        block = part(x, begin, min(begin + BLOCK, x.size))
        if kind == DEVIATION and begin == 0:
            mean, squares = _moments(block)
            center, total, seen = np.float64(mean), np.float64(squares), block.size
        elif kind == DEVIATION:
            about = x.dtype.type(center)
            plain, squares = _distances(block, about)
            shift = np.float64(plain) / block.size
            delta = np.float64(about) + shift - center
            total += np.float64(squares) - np.float64(plain) * shift
            total += delta * delta * seen * block.size / (seen + block.size)
            center += delta * block.size / (seen + block.size)
            seen += block.size
        else:
            total += np.float64(_total(kind, block))
    return center, total


@serial
def _apply(x, y, center, inverse, scale, bias, base, repeat):
    """One line."""
    if scale.size == 0:
        for i in range(x.size):
            y[i] = (x[i] - center) * inverse
    elif repeat == 1:
        gain, shift = part(scale, base, base + x.size), part(bias, base, base + x.size)
        for i in range(x.size):
            y[i] = (x[i] - center) * inverse * gain[i] + shift[i]
    else:
        for k in range(x.size // repeat):
            u, v = part(x, k * repeat, (k + 1) * repeat), part(y, k * repeat, (k + 1) * repeat)
            factor, add = scale[base + k] * inverse, bias[base + k]
            for i in range(repeat):
                v[i] = (u[i] - center) * factor + add


@inlined
def _line(kind, line, x, scale, bias, y, mean, inverse, dims, settings):
    _lines, width, groups, repeat = dims
    start, base = line * width, line % groups * (width // repeat)
    values, out = part(x, start, start + width), part(y, start, start + width)
    center, total = _statistics(kind, values)
    mean[line] = center
    inverse[line] = inverse_of(kind, total, settings)
    _apply(values, out, mean[line], inverse[line], scale, bias, base, repeat)


@serial
def _lines(kind, first, last, x, scale, bias, y, mean, inverse, dims, settings):
    """A loop here, because a call with all these arrays takes longer than a short line."""
    for line in range(first, last):
        _line(kind, line, x, scale, bias, y, mean, inverse, dims, settings)


@kernel
def norm_lines(kind, x, scale, bias, y, mean, inverse, dims, settings):
    """y = (x - mean) * inverse * scale + bias. mean (lines) is 0 for all kinds but DEVIATION; y may be x. scale and
    bias (groups * width / repeat) are both there or both empty.
    """
    lines, width = dims[0], dims[1]
    share = max(TASK // width, 1)
    for index in prange((lines + share - 1) // share):
        task = np.int64(index)
        last = min((task + 1) * share, lines)
        _lines(kind, task * share, last, x, scale, bias, y, mean, inverse, dims, settings)


# --- gradients --------------------------------------------------------------------------------------------------------


@serial
def _products(dy, x, center):
    """The sums of dy and of dy * (x - center) over a block."""
    plain, product = x.dtype.type(0), x.dtype.type(0)
    for i in range(x.size):
        plain += dy[i]
        product += dy[i] * (x[i] - center)
    return plain, product


@serial
def _scaled_products(dy, x, center, scale):
    """The same of dy * scale."""
    plain, product = x.dtype.type(0), x.dtype.type(0)
    for i in range(x.size):
        plain += dy[i] * scale[i]
        product += dy[i] * scale[i] * (x[i] - center)
    return plain, product


@serial
def _sums(dy, x, center):
    """The sums of dy and of dy * (x - center) over a run of any length, in float64."""
    plain, product = 0.0, 0.0
    for begin in range(0, x.size, BLOCK):
        end = min(begin + BLOCK, x.size)
        a, b = _products(part(dy, begin, end), part(x, begin, end), center)
        plain += np.float64(a)
        product += np.float64(b)
    return plain, product


@serial
def _line_sums(dy, x, center, scale, base, repeat):
    """The sums of dy * scale and of dy * scale * (x - center) over a line."""
    if scale.size == 0:
        return _sums(dy, x, center)
    plain, product = 0.0, 0.0
    if repeat == 1:
        for begin in range(0, x.size, BLOCK):
            end = min(begin + BLOCK, x.size)
            gain = part(scale, base + begin, base + end)
            a, b = _scaled_products(part(dy, begin, end), part(x, begin, end), center, gain)
            plain += np.float64(a)
            product += np.float64(b)
    else:
        for k in range(x.size // repeat):
            begin, end = k * repeat, (k + 1) * repeat
            a, b = _sums(part(dy, begin, end), part(x, begin, end), center)
            plain += a * scale[base + k]
            product += b * scale[base + k]
    return plain, product


@serial
def _apply_grad(kind, dy, x, dx, center, inverse, scale, base, repeat, slope, shift):
    """dx = dy * scale * inverse + (x - center) * slope + shift; of SIZE, by the sign of x instead of x."""
    if kind == SIZE:
        zero = x.dtype.type(0)
        for i in range(x.size):
            along = slope if x[i] > zero else (-slope if x[i] < zero else zero)
            dx[i] = dy[i] * inverse + along
    elif scale.size == 0:
        for i in range(x.size):
            dx[i] = dy[i] * inverse + ((x[i] - center) * slope + shift)
    elif repeat == 1:
        gain = part(scale, base, base + x.size)
        for i in range(x.size):
            dx[i] = dy[i] * gain[i] * inverse + ((x[i] - center) * slope + shift)
    else:
        for k in range(x.size // repeat):
            begin, end = k * repeat, (k + 1) * repeat
            u, v, w = part(dy, begin, end), part(x, begin, end), part(dx, begin, end)
            factor = scale[base + k] * inverse
            for i in range(repeat):
                w[i] = u[i] * factor + ((v[i] - center) * slope + shift)


@serial
def slopes(kind, plain, product, inverse, settings):
    """What (x - mean) is multiplied with in the gradient, and what is added, from the sums of dy * scale and of
    dy * scale * (x - mean) over what was brought together.
    """
    inverse = np.float64(inverse)
    if kind == SIZE:
        return -inverse * inverse * product, 0.0
    slope = -inverse * inverse * inverse * product / settings[0]
    return slope, -inverse * plain / settings[0] if kind == DEVIATION else 0.0


@inlined
def _line_grad(kind, line, dy, x, scale, mean, inverse, dx, dims, settings):
    _lines, width, groups, repeat = dims
    start, base = line * width, line % groups * (width // repeat)
    end = start + width
    grads, values, out = part(dy, start, end), part(x, start, end), part(dx, start, end)
    plain, product = _line_sums(grads, values, mean[line], scale, base, repeat)
    slope, shift = slopes(kind, plain, product, inverse[line], settings)
    slope, shift = x.dtype.type(slope), x.dtype.type(shift)
    _apply_grad(kind, grads, values, out, mean[line], inverse[line], scale, base, repeat, slope, shift)


@serial
def _lines_grad(kind, first, last, dy, x, scale, mean, inverse, dx, dims, settings):
    for line in range(first, last):
        _line_grad(kind, line, dy, x, scale, mean, inverse, dx, dims, settings)


@kernel
def norm_lines_grad(kind, dy, x, scale, mean, inverse, dx, dims, settings):
    """dx = inverse * (g - mean of g - (x - mean) * inverse * mean of g * (x - mean) * inverse), where g is dy * scale;
    without the mean of g for all kinds but DEVIATION. dx may be dy or x. mean, inverse: as `norm_lines` left them.
    """
    lines, width = dims[0], dims[1]
    share = max(TASK // width, 1)
    for index in prange((lines + share - 1) // share):
        task = np.int64(index)
        last = min((task + 1) * share, lines)
        _lines_grad(kind, task * share, last, dy, x, scale, mean, inverse, dx, dims, settings)


@serial
def _column_sums(dy, x, mean, inverse, first, last, width, column, product, plain):
    """Of lines first to last, columns from `column` on: sums over the lines of dy * (x - mean) * inverse and of dy."""
    product[:] = 0
    plain[:] = 0
    count = plain.size
    for line in range(first, last):
        at = line * width + column
        u, v = part(dy, at, at + count), part(x, at, at + count)
        center, factor = mean[line], inverse[line]
        for i in range(count):
            plain[i] += u[i]
            product[i] += u[i] * (v[i] - center) * factor


@serial
def _run_sums(task, dy, x, mean, inverse, partials, dims):
    """The same of the run of neighbours that one element of scale belongs to."""
    _lines, width, groups, repeat = dims
    channels = groups * (width // repeat)
    line = task * repeat // width
    plain, product = _sums(
        part(dy, task * repeat, (task + 1) * repeat), part(x, task * repeat, (task + 1) * repeat), mean[line]
    )
    at = task // channels * 2 * channels + task % channels
    partials[at] = product * inverse[line]
    partials[at + channels] = plain


@kernel
def norm_lines_parameters(dy, x, mean, inverse, dscale, dbias, partials, dims, block):
    """dscale = sum of dy * (x - mean) * inverse, dbias = sum of dy, over all that each element of scale belongs to.

    partials: scratch, 2 * channels for each part, where channels = groups * width / repeat. A part is `block` lines
    where repeat and groups are 1, and `groups` lines otherwise.
    """
    lines, width, groups, repeat = dims
    channels = groups * (width // repeat)
    if groups * repeat == 1:
        parts = (lines + block - 1) // block
        tiles = (width + COLUMNS - 1) // COLUMNS
        for index in prange(parts * tiles):
            task = np.int64(index)
            column, number = task % tiles * COLUMNS, task // tiles
            at, count = number * 2 * channels + column, min(COLUMNS, width - column)
            product, plain = part(partials, at, at + count), part(partials, at + channels, at + channels + count)
            last = min((number + 1) * block, lines)
            _column_sums(dy, x, mean, inverse, number * block, last, width, column, product, plain)
    else:
        parts = lines // groups
        for index in prange(parts * channels):
            task = np.int64(index)
            _run_sums(task, dy, x, mean, inverse, partials, dims)
    for index in prange(channels):
        c = np.int64(index)
        _merge(c, partials, dscale, dbias, parts, channels)


@serial
def _merge(c, partials, dscale, dbias, parts, channels):
    product, plain = 0.0, 0.0
    for number in range(parts):
        product += np.float64(partials[number * 2 * channels + c])
        plain += np.float64(partials[(number * 2 + 1) * channels + c])
    dscale[c] = product
    dbias[c] = plain
