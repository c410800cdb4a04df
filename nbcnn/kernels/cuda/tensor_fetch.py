"""What the kernels of tensor_conv.py multiply in a step, copied to shared memory. There are two ways to fetch it:

- wide: each thread copies runs of four channels of its pixels, 16 bytes at a time. The channels of a group, and the
  elements from pixel to pixel, must be multiples of four. All of a step is of one tap.
- flat: one element at a time, for everything else. The depth is walked without a gap from tap to tap, so that a
  picture's three channels do not fill steps with zeros.

Where a tap falls off the picture, a copy fills in zeros and reads nothing.
"""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import cuda
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.mma import copy_1, copy_2, copy_4
from nbcnn.kernels.cuda.pixels import count, locate, start_of, tap_start
from nbcnn.kernels.cuda.tiles import weight_place
from nbcnn.kernels.cuda.tiling import DEPTH
from nbcnn.kernels.cuda.unroll import each, inlined

__all__ = ["enter", "fetch_flat", "fetch_wide", "pair_start", "pixel_start", "wide_start"]

FAR = -(1 << 30)
"""A place from which no tap meets the picture: of rows of a tile behind the last pixel."""


# --- where a thread begins


@inlined
def pixel_start(pixel, grid, source, group, in_line):
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
def pair_start(channel, group, weights, panels, run):
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
def wide_start(_, i, args):
    """Where the i-th pixel of a thread begins, see pixel_start."""
    first, grid, source, group, in_line = args
    return pixel_start(first + 32 * i, grid, source, group, in_line)


@inlined
def _wide_tap(start, i, args):
    move, source = args
    return tap_start(start, move, source)


@inlined
def enter(tap, args):
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
def fetch_wide(state, buffer, at, args):
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
            weight, starts = enter(tap, tap_args)
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
def fetch_flat(state, buffer, at, args):
    """As fetch_wide; state: how far into the depth a step begins."""
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
