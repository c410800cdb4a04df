"""Convolution as a product of tiles, on tensor cores or in full float32: what conv.py launches.

A block computes a tile of pixels by output channels (tiles.py). It walks the depth, which is taps times input
channels, in steps: while one is multiplied, copies of the next ones are under way, asynchronously, into the other
stages of a ring in shared memory. There are two ways to fetch a step:

- wide: each thread copies runs of four channels of its pixels, 16 bytes at a time. The channels of a group, and the
  elements from pixel to pixel, must be multiples of four. All of a step is of one tap.
- flat: one element at a time, for everything else. The depth is walked without a gap from tap to tap, so that a
  picture's three channels do not fill steps with zeros.

Where a tap falls off the picture, a copy fills in zeros and reads nothing. Sums start with the bias.

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
from nbcnn.kernels.cuda.mma import commit, copy_1, copy_2, copy_4, shared_floats, wait
from nbcnn.kernels.cuda.pixels import clamp, count, locate, row_of, start_of, tap_start
from nbcnn.kernels.cuda.tile_sums import begin, end
from nbcnn.kernels.cuda.tiles import (
    multiply_tile,
    multiply_tile_bfloat16,
    multiply_tile_exactly,
    multiply_tile_float16,
    weight_place,
)
from nbcnn.kernels.cuda.tiling import DEPTH, FLAT_FLOATS, FLOATS, THREADS
from nbcnn.kernels.cuda.unroll import each, inlined

__all__ = ["convolve"]

FAR = -(1 << 30)
"""A place from which no tap meets the picture: of rows of a tile behind the last pixel."""
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


@inlined
def _pixel_start(pixel, grid, source, group, in_line):
    """(element of x, d, h, w) of a pixel of the grid, where the channels of a group begin. in_line: whether it is the
    pixel of x of the same number, for the one tap that there is.
    """
    if pixel >= count(grid):
        return 0, FAR, 0, 0
    if in_line:
        return pixel * source[3], 0, 0, 0
    place, d, h, w = start_of(locate(pixel, grid), source)
    return place + group * source[4], d, h, w


@inlined
def _pair_start(channel, group, weights, panels, run):
    """(element of w where a thread's first pair of channels begins, how many channels from there on w has)."""
    width, count = panels
    channel += 2 * (cuda.threadIdx.x & 15)
    panel = (group * count + divide(channel, width)) * weights[2] * run * width
    return panel + remainder(channel, width), count * width - channel


@inlined
def _pair_of(i, columns):
    """(element of the depth, 32 channels) of the pair of weights that a thread copies as its i-th: lanes have 32
    channels at two neighbouring depths, which share their chunks.
    """
    thread, far = cuda.threadIdx.x, i // (2 * len(columns))
    return 2 * (thread >> 5) + 8 * far + ((thread >> 4) & 1), i % (2 * len(columns))


@inlined
def _pair_place(k, block, columns):
    """Where in shared memory, behind the pixels, that pair lies."""
    return weight_place(k >> 1, cuda.threadIdx.x & 15, columns) + 64 * block + 2 * (k & 1)


# --- fetching in runs of four channels


@inlined
def _wide_start(_, i, args):
    first, grid, source, group, in_line = args
    return _pixel_start(first + 32 * i, grid, source, group, in_line)


@inlined
def _wide_tap(start, i, args):
    move, source = args
    return tap_start(start, move, source)


@inlined
def _enter(tap, args):
    """(weights' start, starts of the thread's pixels in x) of a tap."""
    taps, source, pixels, pair, width = args
    move = taps[4 * tap], taps[4 * tap + 1], taps[4 * tap + 2]
    return pair + taps[4 * tap + 3] * source[4] * width, each(_wide_tap, pixels, (move, source))


@inlined
def _copy_pixel(start, i, args):
    """Four channels of one pixel."""
    x, buffer, at, c, run = args
    inside = (start >= 0) & (c < run)
    copy_4(buffer, at + 32 * DEPTH * i, x, start + c if inside else 0, inside)


@inlined
def _copy_pair(_, i, args):
    """Two channels of one depth of the weights."""
    w, buffer, at, weight, left, width, hop, channels, columns = args
    k, block = _pair_of(i, columns)
    inside = (k < left) & (32 * block < channels)
    start = weight + k * width + block * hop if inside else 0
    copy_2(buffer, at + _pair_place(k, block, columns), w, start, inside)


@inlined
def _fetch_wide(state, buffer, at, args):
    """Start to copy a step to shared memory from `at` on. state: where it begins, (tap, channel, element of w, starts
    of pixels in x); returns the next one's.
    """
    tap, c, weight, starts = state
    x, w, tap_args, hop, channels, rows, columns = args
    taps, source, _, _, width = tap_args
    run, mine = source[4], 4 * (cuda.threadIdx.x & 3)
    each(_copy_pixel, starts, (x, buffer, at + (cuda.threadIdx.x >> 2) * DEPTH + mine, c + mine, run))
    weight_args = w, buffer, at + 32 * len(rows) * DEPTH, weight, run - c, width, hop, channels, columns
    each(_copy_pair, columns + columns + columns + columns, weight_args)
    c += DEPTH
    weight += DEPTH * width
    if c >= run:
        c = 0
        tap += 1
        if len(taps) > 4 and 4 * tap < len(taps):  # the first part is known of a tuple: it has one tap
            weight, starts = _enter(tap, tap_args)
    return tap, c, weight, starts


# --- fetching element by element


@inlined
def _copy_element(_, i, args):
    """One channel of one pixel, which may fall off the picture."""
    x, buffer, at, places, spots, move, source, c, there = args
    row = (cuda.threadIdx.x >> 4) + 8 * i
    start = tap_start((places[row], spots[3 * row], spots[3 * row + 1], spots[3 * row + 2]), move, source)
    inside = there & (start >= 0)
    copy_1(buffer, at + 8 * DEPTH * i, x, start + c if inside else 0, inside)


@inlined
def _copy_inner_element(_, i, args):
    """One channel of one pixel, which does not."""
    x, buffer, at, places, spots, ahead, there = args
    row = (cuda.threadIdx.x >> 4) + 8 * i
    inside = there & (spots[3 * row] >= 0)
    copy_1(buffer, at + 8 * DEPTH * i, x, places[row] + ahead if inside else 0, inside)


@inlined
def _copy_flat_pair(_, i, args):
    """Two channels of one depth of the weights."""
    w, buffer, at, taps, depth, first, pair, run, width, hop, channels, columns = args
    k, block = _pair_of(i, columns)
    inside = (first + k < depth) & (32 * block < channels)
    tap = divide(first + k, run) if inside and len(taps) > 4 else 0
    row = taps[4 * tap + 3] * run + first + k - tap * run
    start = pair + row * width + block * hop if inside else 0
    copy_2(buffer, at + _pair_place(k, block, columns), w, start, inside)


@inlined
def _fetch_flat(state, buffer, at, args):
    """As _fetch_wide; state: how far into the depth a step begins."""
    x, w, taps, places, spots, source, pair, width, hop, channels, never_off, rows, columns = args
    in_h, in_w, pitch, run = source[1], source[2], source[3], source[4]
    depth = run * (len(taps) // 4)
    k = state + (cuda.threadIdx.x & 15)
    there = k < depth
    tap = divide(k, run) if there and len(taps) > 4 else 0
    move, c = (taps[4 * tap], taps[4 * tap + 1], taps[4 * tap + 2]), k - tap * run
    elements, to = rows + rows + rows + rows, at + cuda.threadIdx.x
    if never_off:
        ahead = ((move[0] * in_h + move[1]) * in_w + move[2]) * pitch + c
        each(_copy_inner_element, elements, (x, buffer, to, places, spots, ahead, there))
    else:
        each(_copy_element, elements, (x, buffer, to, places, spots, move, source, c, there))
    weight_args = (
        w, buffer, at + 32 * len(rows) * DEPTH, taps, depth, state, pair, run, width, hop, channels, columns,
    )  # fmt: skip
    each(_copy_flat_pair, columns + columns + columns + columns, weight_args)
    return state + DEPTH


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
    pixels = each(_wide_start, rows, (pixel + (cuda.threadIdx.x >> 2), grid, source, group, cut[3]))
    run = source[4]
    pair, channels = _pair_start(channel, group, weights, panels, run)
    hop = 32 * weights[2] * run
    tap_args = taps, source, pixels, pair, panels[0]
    a_tap = (run + DEPTH - 1) // DEPTH
    first = part * cut[1]
    steps = min(cut[1], len(taps) // 4 * a_tap - first)
    sums = begin(bias, weights, block, cut, rows, columns)
    if steps > 0:
        tap = divide(first, a_tap) if len(taps) > 4 else 0
        c = (first - tap * a_tap) * DEPTH
        weight, starts = _enter(tap, tap_args)
        state = tap, c, weight + c * panels[0], starts
        args = x, w, tap_args, hop, channels, rows, columns
        sums = _walk(_fetch_wide, multiply, sums, state, steps, buffer, rows, columns, ahead, args)
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
        places[row], spots[3 * row], spots[3 * row + 1], spots[3 * row + 2] = _pixel_start(
            pixel + row, grid, source, group, cut[3]
        )
    cuda.syncthreads()
    run = source[4]
    pair, channels = _pair_start(channel, group, weights, panels, run)
    hop = 32 * weights[2] * run
    first = part * cut[1]
    steps = min(cut[1], (len(taps) // 4 * run + DEPTH - 1) // DEPTH - first)
    sums = begin(bias, weights, block, cut, rows, columns)
    args = x, w, taps, places, spots, source, pair, panels[0], hop, channels, cut[5], rows, columns
    sums = _walk(_fetch_flat, multiply, sums, first * DEPTH, steps, buffer, rows, columns, ahead, args)
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
