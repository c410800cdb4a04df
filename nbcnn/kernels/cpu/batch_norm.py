"""Batch normalization over rows of channels: x is (rows, channels), flat, a row being one pixel of one picture.

Sums over rows are made in tiles of fixed size, in the element type, and the tiles are added up in float64, in their
order: results do not depend on the number of threads. Within a tile a few rows are added up, then their sums, so that
errors grow with 16 + 16 terms and not with 256. `dims` is (rows, channels).
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import simd
from nbcnn.kernels.cpu.compare import between
from nbcnn.kernels.cpu.jit import kernel, serial, small_kernel
from nbcnn.kernels.cpu.moments import RUN, add_up, merge_moments, pitch, tile_moments, tile_of, tiles_of
from nbcnn.kernels.cpu.row_tiles import TILE_CHANNELS, TILE_ROWS

TILE = (TILE_ROWS, TILE_CHANNELS)

__all__ = [
    "batch_norm_apply",
    "batch_norm_fold",
    "batch_norm_input_grad",
    "batch_norm_statistics",
    "batch_norm_sums",
    "running_average",
]


# --- forward ----------------------------------------------------------------------------------------------------------


@kernel
def batch_norm_statistics(x, mean, var, partials, dims):
    """mean, var (channels): mean and population variance of x by channel.

    partials: scratch, 2 * pitch_of(channels) for each block of TILE_ROWS rows.
    """
    for index in prange(tiles_of(dims, TILE)):
        task = np.int64(index)
        tile_moments(task, x, partials, dims, TILE)
    for index in prange(dims[1]):
        c = np.int64(index)
        merge_moments(c, partials, mean, var, dims, TILE)


@serial
def _apply_tile(task, x, scale, bias, mean, var, residual, y, gains, slot, dims, epsilon, low, high):
    row0, row1, first, count, _block = tile_of(task, dims, TILE)
    for c in range(count):
        gains[slot + c] = scale[first + c] / np.sqrt(var[first + c] + epsilon)
    for row in range(row0, row1):
        at = row * dims[1] + first
        for c in range(0, count, simd.lanes(x)):
            left = count - c
            value = simd.sub(simd.load_first(x, at + c, left), simd.load_first(mean, first + c, left))
            gain, shift = simd.load_first(gains, slot + c, left), simd.load_first(bias, first + c, left)
            value = simd.fma(value, gain, shift)
            if residual.size > 0:
                value = simd.add(value, simd.load_first(residual, at + c, left))
            simd.store_first(y, at + c, simd.clamp(value, low, high), left)


@kernel
def batch_norm_apply(x, scale, bias, mean, var, residual, y, gains, dims, epsilon, low, high):
    """y = clamp((x - mean) / sqrt(var + epsilon) * scale + bias + residual, low, high).

    residual may be empty; y may be x or residual itself. gains: scratch, TILE_CHANNELS for each thread.
    """
    for index in prange(tiles_of(dims, TILE)):
        task = np.int64(index)
        slot = get_thread_id() * TILE_CHANNELS
        _apply_tile(task, x, scale, bias, mean, var, residual, y, gains, slot, dims, epsilon, low, high)


# --- backward ---------------------------------------------------------------------------------------------------------


@serial
def _behind_clamp(dy, y, at, left, deviation, gain, shift, low, high):
    """dy where the clamp let the value through; the value is y, or without y what it was made of."""
    if y.size > 0:
        return between(simd.load_first(y, at, left), low, high, simd.load_first(dy, at, left))
    return between(simd.fma(deviation, gain, shift), low, high, simd.load_first(dy, at, left))


@serial
def _tile_sums(task, dy, x, y, scale, bias, mean, var, partials, work, slot, dims, epsilon, low, high):
    """Of a tile, for each channel: the sums of dz and of dz * (x - mean)."""
    row0, row1, first, count, block = tile_of(task, dims, TILE)
    plain = block * 2 * pitch(dims[1]) + first
    product = plain + pitch(dims[1])
    partials[plain : plain + pitch(count)] = 0
    partials[product : product + pitch(count)] = 0
    run, other, lanes = slot + TILE_CHANNELS, slot + 2 * TILE_CHANNELS, simd.lanes(x)
    work[run : run + pitch(count)] = 0
    work[other : other + pitch(count)] = 0
    floor, ceiling = simd.broadcast(x, low), simd.broadcast(x, high)
    for c in range(count):
        work[slot + c] = scale[first + c] / np.sqrt(var[first + c] + epsilon)
    for begin in range(row0, row1, RUN):
        for row in range(begin, min(begin + RUN, row1)):
            at = row * dims[1] + first
            for c in range(0, count, lanes):
                left = count - c
                deviation = simd.sub(simd.load_first(x, at + c, left), simd.load_first(mean, first + c, left))
                gain, shift = simd.load_first(work, slot + c, left), simd.load_first(bias, first + c, left)
                dz = _behind_clamp(dy, y, at + c, left, deviation, gain, shift, floor, ceiling)
                simd.store(work, run + c, simd.add(simd.load(work, run + c), dz))
                simd.store(work, other + c, simd.fma(dz, deviation, simd.load(work, other + c)))
        add_up(partials, plain, work, run, count, lanes)
        add_up(partials, product, work, other, count, lanes)


@serial
def _merge_sums(c, partials, var, dscale, dbias, dims, epsilon):
    rows, width = dims[0], pitch(dims[1])
    plain, product = 0.0, 0.0
    for row in range(0, rows, TILE_ROWS):
        at = row // TILE_ROWS * 2 * width + c
        plain += partials[at]
        product += partials[at + width]
    dbias[c] = plain
    dscale[c] = product / np.sqrt(np.float64(var[c]) + epsilon)


@kernel
def batch_norm_sums(dy, x, y, scale, bias, mean, var, dscale, dbias, partials, work, dims, epsilon, low, high):
    """dbias = sum of dz, dscale = sum of dz * (x - mean) / sqrt(var + epsilon), where dz is dy behind the clamp.

    y: the forward output, or empty where no residual was added: then it is worked out again from x, which is read
    anyway. partials: as in batch_norm_statistics; work: scratch, 3 * TILE_CHANNELS for each thread.
    """
    for index in prange(tiles_of(dims, TILE)):
        task = np.int64(index)
        slot = get_thread_id() * 3 * TILE_CHANNELS
        _tile_sums(task, dy, x, y, scale, bias, mean, var, partials, work, slot, dims, epsilon, low, high)
    for index in prange(dims[1]):
        c = np.int64(index)
        _merge_sums(c, partials, var, dscale, dbias, dims, epsilon)


@serial
def _set_factors(first, count, rows, scale, var, dscale, dbias, factors, slot, epsilon):
    """Three factors a channel, so that dx = dz * gain - shift - (x - mean) * slope."""
    shift, slope = slot + TILE_CHANNELS, slot + 2 * TILE_CHANNELS
    for c in range(count):
        inverse = 1 / np.sqrt(var[first + c] + epsilon)
        gain = scale[first + c] * inverse
        factors[slot + c] = gain
        if dscale.size > 0:
            factors[shift + c] = gain * dbias[first + c] / rows
            factors[slope + c] = gain * inverse * dscale[first + c] / rows
        else:
            factors[shift + c] = 0
            factors[slope + c] = 0


@serial
def _input_grad_tile(
    task, dy, x, y, scale, bias, mean, var, dscale, dbias, dx, dz_out, factors, slot, dims, epsilon, low, high
):
    row0, row1, first, count, _block = tile_of(task, dims, TILE)
    rows, channels = dims
    _set_factors(first, count, rows, scale, var, dscale, dbias, factors, slot, epsilon)
    floor, ceiling = simd.broadcast(x, low), simd.broadcast(x, high)
    for row in range(row0, row1):
        at = row * channels + first
        for c in range(0, count, simd.lanes(x)):
            left = count - c
            deviation = simd.sub(simd.load_first(x, at + c, left), simd.load_first(mean, first + c, left))
            gain, offset = simd.load_first(factors, slot + c, left), simd.load_first(bias, first + c, left)
            dz = _behind_clamp(dy, y, at + c, left, deviation, gain, offset, floor, ceiling)
            if dz_out.size > 0:
                simd.store_first(dz_out, at + c, dz, left)
            shift = simd.load_first(factors, slot + TILE_CHANNELS + c, left)
            slope = simd.load_first(factors, slot + 2 * TILE_CHANNELS + c, left)
            through = simd.fma(deviation, slope, shift)
            simd.store_first(dx, at + c, simd.sub(simd.mul(dz, gain), through), left)


@kernel
def batch_norm_input_grad(dy, x, y, scale, bias, mean, var, dscale, dbias, dx, dz, factors, dims, epsilon, low, high):
    """dx = scale * inverse * (dz - mean of dz - (x - mean) * inverse * mean of dz * (x - mean) * inverse).

    inverse is 1 / sqrt(var + epsilon). That is the gradient through batch statistics (Ioffe and Szegedy,
    arXiv:1502.03167, section 3), in terms of dscale and dbias; where these are empty the statistics were constants, and
    the two means are left out. y: as in batch_norm_sums. dz: where not empty, dy behind the clamp, the residual's
    gradient, is written there. dx or dz may be dy itself. factors: scratch, 3 * TILE_CHANNELS for each thread.
    """
    for index in prange(tiles_of(dims, TILE)):
        task = np.int64(index)
        slot = get_thread_id() * 3 * TILE_CHANNELS
        _input_grad_tile(
            task, dy, x, y, scale, bias, mean, var, dscale, dbias, dx, dz, factors, slot, dims, epsilon, low, high
        )


# --- statistics and weights -------------------------------------------------------------------------------------------


@small_kernel
def running_average(running, batch, out, momentum):
    """out = running * momentum + batch * (1 - momentum); out may be running itself."""
    for c in range(out.size):
        out[c] = running[c] * momentum + batch[c] * (1 - momentum)


@small_kernel
def batch_norm_fold(w, bias, scale, shift, mean, var, new_w, new_bias, dims, epsilon):
    """Weights and bias of a layer that does what the layer (w, bias) and the batch norm behind it did.

    w is (groups, middle, channels, inner) = dims, where output channel g * channels + c has w[g, :, c]. bias may be
    empty. Runs when a weight has changed, not at every step.
    """
    groups, middle, channels, inner = dims
    for c in range(groups * channels):
        gain = scale[c] / np.sqrt(var[c] + epsilon)
        new_bias[c] = shift[c] - mean[c] * gain
        if bias.size > 0:
            new_bias[c] += bias[c] * gain
        for m in range(middle):
            at = ((c // channels * middle + m) * channels + c % channels) * inner
            for i in range(at, at + inner):
                new_w[i] = w[i] * gain
