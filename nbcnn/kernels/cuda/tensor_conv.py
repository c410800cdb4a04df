"""Convolution as a product of tiles, on tensor cores or in full float32: what conv.py launches.

A block computes a tile of pixels by output channels (tiles.py). It walks the depth, which is taps times input
channels, in steps: while one is multiplied, copies of the next ones are under way, asynchronously, into the other
stages of a ring in shared memory. There are two ways to fetch a step, wide and flat (tensor_fetch.py). Sums start with
the bias.

Arrays of 16 bits (halves.py) are multiplied as words of two channels: whatever counts elements of x or its channels
counts words then. Their weights come in the order of pairs (panels.py), whose words lie as float32 does.

Where tiles are few and the depth is long, blocks share the depth of a tile; what they have goes to scratch memory, and
`_add_parts` adds it up in order.
"""

from __future__ import annotations

import math

from nbcnn.kernels.cuda import tiling
from nbcnn.kernels.cuda._cuda import TARGET, cuda, kernel, launch, spread, types
from nbcnn.kernels.cuda.halves import is_half, kind_of
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.mma import commit, shared_floats, wait
from nbcnn.kernels.cuda.pixels import clamp, count, locate, row_of
from nbcnn.kernels.cuda.tensor_fetch import enter, fetch_flat, fetch_wide, pair_start, pixel_start, wide_start
from nbcnn.kernels.cuda.tile_sums import begin, end
from nbcnn.kernels.cuda.tiles import (
    multiply_tile,
    multiply_tile_bfloat16,
    multiply_tile_exactly,
    multiply_tile_float16,
)
from nbcnn.kernels.cuda.tiling import DEPTH, FLAT_FLOATS, FLOATS, THREADS
from nbcnn.kernels.cuda.unroll import each, inlined

__all__ = ["convolve"]

TALLEST = 128
"""Rows of the tallest tile, and three numbers for each."""
TALLEST_TIMES_3 = 3 * TALLEST


# --- what part of the product a block has


@inlined
def _block(grid, weights, cut, rows, columns):
    """(first pixel, first channel of the group, group, part of the depth)."""
    group_count, channels, _taps = weights
    across = (channels + 64 * len(columns) - 1) // (64 * len(columns))
    rest, column = divide(cuda.blockIdx.x, across), remainder(cuda.blockIdx.x, across)
    rest, group = divide(rest, group_count), remainder(rest, group_count)
    return divide(rest, cut[0]) * (32 * len(rows)), column * (64 * len(columns)), group, remainder(rest, cut[0])


# --- the ring of stages


@inlined
def _walk(fetch, multiply, sums, state, steps, buffer, rows, columns, ahead, args):
    """sums + the product over so many steps. ahead: a tuple; the ring has two stages more than it has elements.

    A thread knows of its own copies that they have arrived, so a barrier tells it about all others'. The same barrier
    says that the step before this one has been multiplied everywhere: its stage is free, and the next copies go there.
    """
    size, stages = (32 * len(rows) + 64 * len(columns)) * DEPTH, len(ahead) + 2
    target = 0
    for step in range(stages - 1):
        if step < steps:
            state = fetch(state, buffer, target, args)
        commit()
        target += size
    source = 0
    for step in range(steps):
        wait(ahead)
        cuda.syncthreads()
        if step + stages - 1 < steps:
            state = fetch(state, buffer, target, args)
        commit()
        sums = multiply(sums, buffer, source, rows, columns)
        source = source + size if source + size < stages * size else 0
        target = target + size if target + size < stages * size else 0
    return sums


# --- kernels


@inlined
def _convolve_wide(multiply, x, w, bias, residual, y, taps, shape, geometry, cut, low, high):
    buffer = shared_floats(FLOATS)
    rows, columns, ahead = shape
    grid, source, target, weights, panels = geometry
    block = _block(grid, weights, cut, rows, columns)
    pixel, channel, group, part = block
    pixels = each(wide_start, rows, (pixel + (cuda.threadIdx.x >> 2), grid, source, group, cut[3]))
    run = source[4]
    pair, channels = pair_start(channel, group, weights, panels, run)
    hop = 32 * weights[2] * run
    tap_args = taps, source, pixels, pair, panels[0]
    a_tap = (run + DEPTH - 1) // DEPTH
    first = part * cut[1]
    steps = min(cut[1], len(taps) // 4 * a_tap - first)
    sums = begin(bias, weights, block, cut, rows, columns)
    if steps > 0:
        tap = divide(first, a_tap) if len(taps) > 4 else 0
        c = (first - tap * a_tap) * DEPTH
        weight, starts = enter(tap, tap_args)
        state = tap, c, weight + c * panels[0], starts
        args = x, w, tap_args, hop, channels, rows, columns
        sums = _walk(fetch_wide, multiply, sums, state, steps, buffer, rows, columns, ahead, args)
    end(sums, residual, y, grid, target, weights, block, cut, rows, columns, low, high)


@inlined
def _convolve_flat(multiply, x, w, bias, residual, y, taps, shape, geometry, cut, low, high):
    buffer = shared_floats(FLAT_FLOATS)
    places = cuda.shared.array(TALLEST, types.int64)
    spots = cuda.shared.array(TALLEST_TIMES_3, types.int32)
    rows, columns, ahead = shape
    grid, source, target, weights, panels = geometry
    block = _block(grid, weights, cut, rows, columns)
    pixel, channel, group, part = block
    row = cuda.threadIdx.x
    if row < 32 * len(rows):
        places[row], spots[3 * row], spots[3 * row + 1], spots[3 * row + 2] = pixel_start(
            pixel + row, grid, source, group, cut[3]
        )
    cuda.syncthreads()
    run = source[4]
    pair, channels = pair_start(channel, group, weights, panels, run)
    hop = 32 * weights[2] * run
    first = part * cut[1]
    steps = min(cut[1], (len(taps) // 4 * run + DEPTH - 1) // DEPTH - first)
    sums = begin(bias, weights, block, cut, rows, columns)
    args = x, w, taps, places, spots, source, pair, panels[0], hop, channels, cut[5], rows, columns
    sums = _walk(fetch_flat, multiply, sums, first * DEPTH, steps, buffer, rows, columns, ahead, args)
    end(sums, residual, y, grid, target, weights, block, cut, rows, columns, low, high)


@kernel
def _wide(x, w, bias, residual, y, taps, shape, geometry, cut, low, high):
    _convolve_wide(multiply_tile, x, w, bias, residual, y, taps, shape, geometry, cut, low, high)


@kernel
def _wide_exact(x, w, bias, residual, y, taps, shape, geometry, cut, low, high):
    _convolve_wide(multiply_tile_exactly, x, w, bias, residual, y, taps, shape, geometry, cut, low, high)


@kernel
def _wide_float16(x, w, bias, residual, y, taps, shape, geometry, cut, low, high):
    _convolve_wide(multiply_tile_float16, x, w, bias, residual, y, taps, shape, geometry, cut, low, high)


@kernel
def _wide_bfloat16(x, w, bias, residual, y, taps, shape, geometry, cut, low, high):
    _convolve_wide(multiply_tile_bfloat16, x, w, bias, residual, y, taps, shape, geometry, cut, low, high)


@kernel
def _flat(x, w, bias, residual, y, taps, shape, geometry, cut, low, high):
    _convolve_flat(multiply_tile, x, w, bias, residual, y, taps, shape, geometry, cut, low, high)


@kernel
def _flat_exact(x, w, bias, residual, y, taps, shape, geometry, cut, low, high):
    _convolve_flat(multiply_tile_exactly, x, w, bias, residual, y, taps, shape, geometry, cut, low, high)


@kernel
def _flat_float16(x, w, bias, residual, y, taps, shape, geometry, cut, low, high):
    _convolve_flat(multiply_tile_float16, x, w, bias, residual, y, taps, shape, geometry, cut, low, high)


@kernel
def _flat_bfloat16(x, w, bias, residual, y, taps, shape, geometry, cut, low, high):
    _convolve_flat(multiply_tile_bfloat16, x, w, bias, residual, y, taps, shape, geometry, cut, low, high)


CODES = {
    "tf32": (_wide, _flat),
    "exact": (_wide_exact, _flat_exact),
    "float16": (_wide_float16, _flat_float16),
    "bfloat16": (_wide_bfloat16, _flat_bfloat16),
}
"""How numbers are multiplied -> kernels for the two ways to fetch a step."""


@kernel
def _add_parts(sums, bias, residual, y, grid, target, total, parts, low, high):
    for i in range(cuda.grid(1), count(grid) * total, cuda.gridsize(1)):
        pixel, channel = divide(i, total), remainder(i, total)
        value = bias[channel] if bias.size > 0 else y.dtype.type(0)
        for part in range(parts):
            value += sums[part * count(grid) * total + i]
        at = row_of(locate(pixel, grid), target) + channel
        if residual.size > 0:
            value += residual[at]
        y[at] = clamp(value, low, high)


def _on_16_bytes(x):
    """Whether an array begins where 16 bytes can be accessed at once; a caller's own may begin anywhere."""
    return TARGET != "gpu" or x.__cuda_array_interface__["data"][0] % 16 == 0


def convolve(x, w, bias, residual, y, taps, scratch, grid, source, target, weights, panels, inside, exact, low, high):
    """What conv.conv_gather computes, with the width of the panels and their number in a group. taps: an array, or
    (0, 0, 0, 0) for one tap that takes pixels as they lie. scratch: room for parts, as much as tiling.scratch_size
    says. inside: whether no tap ever falls off the picture. exact: in full precision, where x and w have 32 bits; both
    may have 16, of one kind, and then run and pitch are even, and w is in the order of pairs.
    """
    way = kind_of(x) or ("exact" if exact else "tf32")
    if is_half(x):
        x, w, source = x.words(), w.words(), (*source[:3], source[3] // 2, source[4] // 2, *source[5:])
    pixels, (group_count, channels, _taps) = grid[0] * grid[1] * grid[2] * grid[3], weights
    run, pitch, total = source[4], source[3], group_count * channels
    flat = tiling.is_flat(run, pitch) or not _on_16_bytes(x)
    steps = tiling.steps_of(run, len(taps) // 4, flat)
    rows, columns, parts = tiling.choose(pixels, channels, group_count, steps, flat)
    if way == "exact":  # so many sums of the largest tile are too many for the registers, with what is multiplied
        columns = 1
    if parts * pixels * total > scratch.size:
        parts = 1
    code = CODES[way][flat]
    blocks = tiling.tiles(rows, columns, pixels, channels) * group_count * parts
    shape = (0,) * rows, (0,) * columns, (0,) * (tiling.stages(rows, columns, flat) - 2)
    in_line = target[:3] == grid[1:] and target[4:] == (0, 0, 0, 1, 1, 1)
    one_tap = isinstance(taps, tuple)
    cut = parts, -(-steps // parts), pixels * total, int(one_tap), int(in_line or parts > 1), int(one_tap or inside)
    if parts == 1:
        geometry = grid, source, target, weights, panels
        launch(code, blocks, THREADS, x, w, bias, residual, y, taps, shape, geometry, cut, low, high)
        return
    geometry = grid, source, (*grid[1:], total, 0, 0, 0, 1, 1, 1), weights, panels
    none = y.dtype.type(-math.inf), y.dtype.type(math.inf)
    launch(code, blocks, THREADS, x, w, bias, residual, scratch, taps, shape, geometry, cut, *none)
    spread(_add_parts, pixels * total, scratch, bias, residual, y, grid, target, total, parts, low, high)
