"""Batch normalization over rows of channels: x is (rows, channels), flat, a row being one pixel of one picture.

Sums over rows are made in tiles of fixed size, in the element type, and the tiles are added in float64 in their order, so that results
depend neither on threads nor on the size of the batch's rounding errors. `dims` is (rows, channels).
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = [
    "TILE_CHANNELS",
    "TILE_ROWS",
    "batch_norm_apply",
    "batch_norm_fold",
    "batch_norm_input_grad",
    "batch_norm_statistics",
    "batch_norm_sums",
    "running_average",
]

TILE_ROWS = 256
TILE_CHANNELS = 64
"""A tile of 64 KiB in float32 stays in the L2 cache while it is read twice."""


@serial
def _tile(task, dims):
    """First row, one past the last, first channel and number of channels of a tile, and its number among the row blocks."""
    rows, channels = dims
    blocks = (channels + TILE_CHANNELS - 1) // TILE_CHANNELS
    first, block = task % blocks * TILE_CHANNELS, task // blocks
    row = block * TILE_ROWS
    return row, min(row + TILE_ROWS, rows), first, min(TILE_CHANNELS, channels - first), block


@serial
def _tiles(dims):
    rows, channels = dims
    return ((rows + TILE_ROWS - 1) // TILE_ROWS) * ((channels + TILE_CHANNELS - 1) // TILE_CHANNELS)


# --- forward ------------------------------------------------------------------------------------------------------------


@serial
def _tile_moments(task, x, partials, dims):
    """Mean of a tile, and sum of squared deviations from it, for each channel (two passes: the tile is in the cache)."""
    row0, row1, first, count, block = _tile(task, dims)
    channels = dims[1]
    mean = block * 2 * channels + first
    square = mean + channels
    partials[mean : mean + count] = 0
    partials[square : square + count] = 0
    for row in range(row0, row1):
        at = row * channels + first
        for c in range(count):
            partials[mean + c] += x[at + c]
    for c in range(count):
        partials[mean + c] /= row1 - row0
    for row in range(row0, row1):
        at = row * channels + first
        for c in range(count):
            deviation = x[at + c] - partials[mean + c]
            partials[square + c] += deviation * deviation


@serial
def _merge_moments(c, partials, mean, var, dims):
    """Chan, Golub and LeVeque's update ("Updating Formulae and a Pairwise Algorithm", 1979), tile after tile."""
    rows, channels = dims
    total, center, squares = 0, 0.0, 0.0
    for row in range(0, rows, TILE_ROWS):
        count = min(TILE_ROWS, rows - row)
        at = row // TILE_ROWS * 2 * channels + c
        delta = np.float64(partials[at]) - center
        center += delta * count / (total + count)
        squares += np.float64(partials[at + channels]) + delta * delta * total * count / (total + count)
        total += count
    mean[c] = center
    var[c] = squares / rows


@kernel
def batch_norm_statistics(x, mean, var, partials, dims):
    """mean, var (channels): the mean and the population variance of x by channel. partials: scratch, 2 * channels a row block."""
    for task in prange(_tiles(dims)):
        _tile_moments(task, x, partials, dims)
    for c in prange(dims[1]):
        _merge_moments(c, partials, mean, var, dims)


@serial
def _apply_tile(task, x, scale, bias, mean, var, residual, y, gains, slot, dims, epsilon, low, high):
    row0, row1, first, count, _block = _tile(task, dims)
    for c in range(count):
        gains[slot + c] = scale[first + c] / np.sqrt(var[first + c] + epsilon)
    for row in range(row0, row1):
        at = row * dims[1] + first
        if residual.size > 0:
            for c in range(count):
                value = (x[at + c] - mean[first + c]) * gains[slot + c] + bias[first + c] + residual[at + c]
                value = low if value < low else value
                y[at + c] = high if value > high else value
        else:
            for c in range(count):
                value = (x[at + c] - mean[first + c]) * gains[slot + c] + bias[first + c]
                value = low if value < low else value
                y[at + c] = high if value > high else value


@kernel
def batch_norm_apply(x, scale, bias, mean, var, residual, y, gains, dims, epsilon, low, high):
    """y = clamp((x - mean) / sqrt(var + epsilon) * scale + bias + residual, low, high).

    residual may be empty; y may be x or residual itself. gains: scratch, TILE_CHANNELS for each thread.
    """
    for task in prange(_tiles(dims)):
        slot = get_thread_id() * TILE_CHANNELS
        _apply_tile(task, x, scale, bias, mean, var, residual, y, gains, slot, dims, epsilon, low, high)


# --- backward -----------------------------------------------------------------------------------------------------------


@serial
def _open(dy, value, low, high):
    """dy where the clamp lets it through."""
    return dy if low < value < high else dy * 0


@serial
def _tile_sums(task, dy, x, y, scale, bias, mean, var, partials, gains, slot, dims, epsilon, low, high):
    """Of a tile, for each channel: the sums of dz and of dz * (x - mean)."""
    row0, row1, first, count, block = _tile(task, dims)
    channels = dims[1]
    plain = block * 2 * channels + first
    product = plain + channels
    partials[plain : plain + count] = 0
    partials[product : product + count] = 0
    for c in range(count):
        gains[slot + c] = scale[first + c] / np.sqrt(var[first + c] + epsilon)
    for row in range(row0, row1):
        at = row * channels + first
        if y.size > 0:
            for c in range(count):
                dz = _open(dy[at + c], y[at + c], low, high)
                partials[plain + c] += dz
                partials[product + c] += dz * (x[at + c] - mean[first + c])
        else:
            for c in range(count):
                deviation = x[at + c] - mean[first + c]
                dz = _open(dy[at + c], deviation * gains[slot + c] + bias[first + c], low, high)
                partials[plain + c] += dz
                partials[product + c] += dz * deviation


@serial
def _merge_sums(c, partials, var, dscale, dbias, dims, epsilon):
    rows, channels = dims
    plain, product = 0.0, 0.0
    for row in range(0, rows, TILE_ROWS):
        at = row // TILE_ROWS * 2 * channels + c
        plain += partials[at]
        product += partials[at + channels]
    dbias[c] = plain
    dscale[c] = product / np.sqrt(var[c] + epsilon)


@kernel
def batch_norm_sums(dy, x, y, scale, bias, mean, var, dscale, dbias, partials, gains, dims, epsilon, low, high):
    """dbias = sum of dz and dscale = sum of dz * (x - mean) / sqrt(var + epsilon), where dz is dy behind the clamp.

    y: the forward output, or empty where no residual was added: then it is worked out again from x, which is read anyway.
    """
    for task in prange(_tiles(dims)):
        slot = get_thread_id() * TILE_CHANNELS
        _tile_sums(task, dy, x, y, scale, bias, mean, var, partials, gains, slot, dims, epsilon, low, high)
    for c in prange(dims[1]):
        _merge_sums(c, partials, var, dscale, dbias, dims, epsilon)


@serial
def _input_grad_tile(
    task, dy, x, y, scale, bias, mean, var, dscale, dbias, dx, dz_out, factors, slot, dims, epsilon, low, high
):
    row0, row1, first, count, _block = _tile(task, dims)
    rows, channels = dims
    shift, slope = slot + TILE_CHANNELS, slot + 2 * TILE_CHANNELS
    for c in range(count):
        inverse = 1 / np.sqrt(var[first + c] + epsilon)
        factors[slot + c] = scale[first + c] * inverse
        if dscale.size > 0:
            factors[shift + c] = factors[slot + c] * dbias[first + c] / rows
            factors[slope + c] = factors[slot + c] * inverse * dscale[first + c] / rows
        else:
            factors[shift + c] = 0
            factors[slope + c] = 0
    for row in range(row0, row1):
        at = row * channels + first
        if y.size > 0:
            for c in range(count):
                dz = _open(dy[at + c], y[at + c], low, high)
                deviation = x[at + c] - mean[first + c]
                dx[at + c] = dz * factors[slot + c] - factors[shift + c] - deviation * factors[slope + c]
                if dz_out.size > 0:
                    dz_out[at + c] = dz
        else:
            for c in range(count):
                deviation = x[at + c] - mean[first + c]
                dz = _open(dy[at + c], deviation * factors[slot + c] + bias[first + c], low, high)
                dx[at + c] = dz * factors[slot + c] - factors[shift + c] - deviation * factors[slope + c]


@kernel
def batch_norm_input_grad(
    dy, x, y, scale, bias, mean, var, dscale, dbias, dx, dz, factors, dims, epsilon, low, high
):
    """dx = scale * inverse * (dz - mean(dz) - (x - mean) * inverse * mean(dz * normalized x)), inverse = 1 / sqrt(var + epsilon).

    That is the gradient through batch statistics (Ioffe and Szegedy, arXiv:1502.03167, section 3), in terms of dscale and dbias; where
    these are empty the statistics were constants and the two means are left out. dx may be dy itself.
    y: as in batch_norm_sums. dz: where it is not empty (only with y), dy behind the clamp is written there, the residual's gradient.
    factors: scratch, 3 * TILE_CHANNELS for each thread.
    """
    for task in prange(_tiles(dims)):
        slot = get_thread_id() * 3 * TILE_CHANNELS
        _input_grad_tile(
            task, dy, x, y, scale, bias, mean, var, dscale, dbias, dx, dz, factors, slot, dims, epsilon, low, high
        )


# --- statistics and weights ---------------------------------------------------------------------------------------------


@serial
def running_average(running, batch, out, momentum):
    """out = running * momentum + batch * (1 - momentum); out may be running itself."""
    for c in range(out.size):
        out[c] = running[c] * momentum + batch[c] * (1 - momentum)


@serial
def batch_norm_fold(w, bias, scale, shift, mean, var, new_w, new_bias, dims, epsilon):
    """Weights and bias of a layer that does what the layer and the batch norm behind it did.

    w (dims): its second and fourth dimension together count output channels, (outer, groups, middle, channels, inner), so that channel
    g * dims[3] + c has w[:, g, :, c]. bias may be empty. Runs when a weight has changed, not at every step.
    """
    outer, groups, middle, channels, inner = dims
    for c in range(groups * channels):
        gain = scale[c] / np.sqrt(var[c] + epsilon)
        before = bias[c] if bias.size > 0 else new_bias.dtype.type(0)
        new_bias[c] = (before - mean[c]) * gain + shift[c]
        for o in range(outer):
            for m in range(middle):
                at = (((o * groups + c // channels) * middle + m) * channels + c % channels) * inner
                for i in range(inner):
                    new_w[at + i] = w[at + i] * gain
