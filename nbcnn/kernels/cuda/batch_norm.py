"""Batch normalization over rows of channels: x is (rows, channels) = `dims`, a row being one pixel of one picture.

A thread keeps to one channel, whose factors stay in its registers, and takes four rows at a time; or to four channels
(batch_norm_quads.py), where they come in fours.
"""

from __future__ import annotations

from math import prod, sqrt

import numpy as np

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, device, kernel, launch, spread, types
from nbcnn.kernels.cuda.batch_norm_quads import SHARE, apply_quads, input_grad_quads, part_sums_quads
from nbcnn.kernels.cuda.block import sum_lanes
from nbcnn.kernels.cuda.columns import (
    blocks_of,
    column_of,
    column_threads,
    column_totals,
    merge_shape,
    part_of,
    streamed,
    stripe_of,
)
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.memory import WIDTH
from nbcnn.kernels.cuda.moments import column_moments
from nbcnn.kernels.cuda.pixels import clamp
from nbcnn.kernels.cuda.row_parts import parts_of

__all__ = [
    "batch_norm_apply",
    "batch_norm_fold",
    "batch_norm_input_grad",
    "batch_norm_statistics",
    "batch_norm_sums",
    "running_average",
]


def _in_quads(dims: tuple[int, int]) -> tuple[tuple[int, int, int], bool]:
    """(1, rows, columns), where columns are quads of channels if there is no odd one, and whether they are."""
    quads = dims[1] % WIDTH == 0
    return (1, dims[0], dims[1] // WIDTH if quads else dims[1]), quads


# --- forward ----------------------------------------------------------------------------------------------------------


def batch_norm_statistics(x, mean, var, partials, dims):
    """mean, var (channels): mean and population variance of x by channel.

    partials: scratch in float64, 2 * channels for each part of the rows (row_parts.py).
    """
    column_moments(x, mean, var, partials, (1, *dims))


@kernel
def _apply(x, scale, bias, mean, var, residual, y, dims, size, epsilon, low, high):
    c, _image, count, at, step = part_of(dims, size)
    if count == 0:
        return
    two, gain = step + step, scale[c] / sqrt(var[c] + epsilon)
    center, shift, adds = mean[c], bias[c], residual.size > 0
    for _ in range(count >> 2):
        at1, at2, at3 = at + step, at + two, at + two + step
        a, b, c, d = x[at], x[at1], x[at2], x[at3]
        a, b = (a - center) * gain + shift, (b - center) * gain + shift
        c, d = (c - center) * gain + shift, (d - center) * gain + shift
        if adds:
            a, b, c, d = a + residual[at], b + residual[at1], c + residual[at2], d + residual[at3]
        y[at], y[at1] = clamp(a, low, high), clamp(b, low, high)
        y[at2], y[at3] = clamp(c, low, high), clamp(d, low, high)
        at += two + two
    for _ in range(count & 3):
        a = (x[at] - center) * gain + shift
        if adds:
            a += residual[at]
        y[at] = clamp(a, low, high)
        at += step


def batch_norm_apply(x, scale, bias, mean, var, residual, y, gains, dims, epsilon, low, high):
    """y = clamp((x - mean) / sqrt(var + epsilon) * scale + bias + residual, low, high).

    residual may be empty; y may be x or residual itself. gains: not needed.
    """
    whole, quads = _in_quads(dims)
    size, blocks, threads = streamed(whole, SHARE) if quads else streamed(whole)
    code = apply_quads if quads else _apply
    launch(code, blocks, threads, x, scale, bias, mean, var, residual, y, whole, size, epsilon, low, high)


# --- backward ---------------------------------------------------------------------------------------------------------


@device
def _behind_clamp(grad, y, at, deviation, gain, shift, low, high):
    """A gradient where the clamp let the value through; the value is y, or without y what it was made of."""
    value = y[at] if y.size > 0 else deviation * gain + shift
    return grad if low < value < high else type(grad)(0)


@kernel
def _part_sums(dy, x, y, scale, bias, mean, var, dscale, dbias, partials, dims, parts, epsilon, low, high):
    shared = cuda.shared.array(BLOCK, types.float64)
    columns = dims[2]
    c, part, _image, count, at, step = stripe_of(dims, parts)
    two, plain, product = step + step, 0.0, 0.0
    if count > 0:
        gain, center, shift = scale[c] / sqrt(var[c] + epsilon), mean[c], bias[c]
        for _ in range(count >> 2):
            at1, at2, at3 = at + step, at + two, at + two + step
            e, f, g, h = dy[at], dy[at1], dy[at2], dy[at3]
            p, q, r, s = x[at] - center, x[at1] - center, x[at2] - center, x[at3] - center
            e = _behind_clamp(e, y, at, p, gain, shift, low, high)
            f = _behind_clamp(f, y, at1, q, gain, shift, low, high)
            g = _behind_clamp(g, y, at2, r, gain, shift, low, high)
            h = _behind_clamp(h, y, at3, s, gain, shift, low, high)
            plain += np.float64((e + f) + (g + h))
            product += np.float64((e * p + f * q) + (g * r + h * s))
            at += two + two
        for _ in range(count & 3):
            p = x[at] - center
            e = _behind_clamp(dy[at], y, at, p, gain, shift, low, high)
            plain += np.float64(e)
            product += np.float64(e * p)
            at += step
    plain, product = sum_lanes(shared, plain), sum_lanes(shared, product)
    if cuda.threadIdx.y == 0 and c < columns:
        if parts == 1:
            dbias[c] = plain
            dscale[c] = product / sqrt(np.float64(var[c]) + np.float64(epsilon))
        else:
            partials[part * 2 * columns + c] = plain
            partials[(part * 2 + 1) * columns + c] = product


@kernel
def _merge_sums(partials, var, dscale, dbias, dims, parts, epsilon):
    shared = cuda.shared.array(BLOCK, types.float64)
    _image, c = column_of(dims[2])
    plain, product = column_totals(shared, partials, 0, c, parts, dims[2])
    if cuda.threadIdx.y == 0 and c < dims[2]:
        dbias[c] = plain
        dscale[c] = product / sqrt(np.float64(var[c]) + np.float64(epsilon))


def batch_norm_sums(dy, x, y, scale, bias, mean, var, dscale, dbias, partials, work, dims, epsilon, low, high):
    """dbias = sum of dz, dscale = sum of dz * (x - mean) / sqrt(var + epsilon), where dz is dy behind the clamp.

    y: the forward output, or empty where no residual was added: then it is worked out again from x, which is read
    anyway. partials: as in batch_norm_statistics; work: not needed.
    """
    whole, parts = (1, *dims), parts_of(1, *dims)
    shape, quads = _in_quads(dims)
    threads, code = column_threads(shape[2]), part_sums_quads if quads else _part_sums
    operands, sums = (dy, x, y, scale, bias, mean, var), (dscale, dbias)
    blocks = blocks_of(shape, parts, threads)
    launch(code, blocks, threads, *operands, *sums, partials, shape, parts, epsilon, low, high)
    if parts > 1:
        blocks, threads = merge_shape(whole)
        launch(_merge_sums, blocks, threads, partials, var, *sums, whole, parts, epsilon)


@kernel
def _input_grad(dy, x, y, scale, bias, mean, var, dscale, dbias, dx, dz, dims, size, epsilon, low, high):
    c, _image, count, at, step = part_of(dims, size)
    if count == 0:
        return
    zero, one = x.dtype.type(0), x.dtype.type(1)
    inverse = one / sqrt(var[c] + epsilon)
    gain, center, offset = scale[c] * inverse, mean[c], bias[c]
    forward = scale[c] / sqrt(var[c] + epsilon)
    # dx = dz * gain - shift - (x - mean) * slope
    shift, slope, rows = zero, zero, x.dtype.type(dims[1])
    if dscale.size > 0:
        shift, slope = gain * dbias[c] / rows, gain * inverse * dscale[c] / rows
    two, keeps = step + step, dz.size > 0
    for _ in range(count >> 2):
        at1, at2, at3 = at + step, at + two, at + two + step
        e, f, g, h = dy[at], dy[at1], dy[at2], dy[at3]
        p, q, r, s = x[at] - center, x[at1] - center, x[at2] - center, x[at3] - center
        e = _behind_clamp(e, y, at, p, forward, offset, low, high)
        f = _behind_clamp(f, y, at1, q, forward, offset, low, high)
        g = _behind_clamp(g, y, at2, r, forward, offset, low, high)
        h = _behind_clamp(h, y, at3, s, forward, offset, low, high)
        if keeps:
            dz[at], dz[at1], dz[at2], dz[at3] = e, f, g, h
        dx[at], dx[at1] = e * gain - (p * slope + shift), f * gain - (q * slope + shift)
        dx[at2], dx[at3] = g * gain - (r * slope + shift), h * gain - (s * slope + shift)
        at += two + two
    for _ in range(count & 3):
        p = x[at] - center
        e = _behind_clamp(dy[at], y, at, p, forward, offset, low, high)
        if keeps:
            dz[at] = e
        dx[at] = e * gain - (p * slope + shift)
        at += step


def batch_norm_input_grad(dy, x, y, scale, bias, mean, var, dscale, dbias, dx, dz, factors, dims, epsilon, low, high):
    """dx = scale * inverse * (dz - mean of dz - (x - mean) * inverse * mean of dz * (x - mean) * inverse).

    inverse is 1 / sqrt(var + epsilon). That is the gradient through batch statistics (Ioffe and Szegedy,
    arXiv:1502.03167, section 3), in terms of dscale and dbias; where these are empty the statistics were constants, and
    the two means are left out. y: as in batch_norm_sums. dz: where not empty, dy behind the clamp, the residual's
    gradient, is written there. dx or dz may be dy itself. factors: not needed.
    """
    whole, quads = _in_quads(dims)
    size, blocks, threads = streamed(whole, SHARE) if quads else streamed(whole)
    code = input_grad_quads if quads else _input_grad
    operands = (dy, x, y, scale, bias, mean, var, dscale, dbias)
    launch(code, blocks, threads, *operands, dx, dz, whole, size, epsilon, low, high)


# --- statistics and weights -------------------------------------------------------------------------------------------


@kernel
def _running_average(running, batch, out, momentum):
    for c in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        out[c] = running[c] * momentum + batch[c] * (out.dtype.type(1) - momentum)


def running_average(running, batch, out, momentum):
    """out = running * momentum + batch * (1 - momentum); out may be running itself."""
    spread(_running_average, out.size, running, batch, out, momentum)


@kernel
def _fold(w, bias, scale, shift, mean, var, new_w, new_bias, dims, count, epsilon):
    middle, channels, inner = dims[1], dims[2], dims[3]
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        rest = divide(i, inner)
        m = remainder(divide(rest, channels), middle)
        c = divide(divide(rest, channels), middle) * channels + remainder(rest, channels)
        gain = scale[c] / sqrt(var[c] + epsilon)
        new_w[i] = w[i] * gain
        if m == 0 and remainder(i, inner) == 0:
            moved = shift[c] - mean[c] * gain
            new_bias[c] = moved + bias[c] * gain if bias.size > 0 else moved


def batch_norm_fold(w, bias, scale, shift, mean, var, new_w, new_bias, dims, epsilon):
    """Weights and bias of a layer that does what the layer (w, bias) and the batch norm behind it did.

    w is (groups, middle, channels, inner) = dims, where output channel g * channels + c has w[g, :, c]. bias may be
    empty. Runs when a weight has changed, not at every step.
    """
    spread(_fold, prod(dims), w, bias, scale, shift, mean, var, new_w, new_bias, dims, prod(dims), epsilon)
