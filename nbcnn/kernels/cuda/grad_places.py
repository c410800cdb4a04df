"""Where the gradient by the weights reads and writes: a product of x and dy whose long side is the pixels.

Row m = tap * run + c of the product is an element of x that each pixel reads with that tap; column n is an output
channel. Taps are numbered in order. `source`, `outer` and `weights` are conv_weight_grad's.
"""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda._cuda import device
from nbcnn.kernels.cuda.index import divide, remainder, within

__all__ = ["enter_pixel", "meets", "pixel_of", "place_of", "row_of", "start_of"]

FAR = -(1 << 30)
"""A position that no tap brings back into the picture."""
LOW = (1 << 32) - 1
"""The low half of a word. Indices are unsigned, so that Numba need not ask whether they count from the end."""


@device
def row_of(m, taps, source):
    """How far row m reads from a pixel, in elements, and its tap's move (d, h, w)."""
    _in_d, in_h, in_w, pitch, run, _sd, _sh, _sw = source
    tap = divide(m, run)
    d, h, w = np.int64(taps[4 * tap]), np.int64(taps[4 * tap + 1]), np.int64(taps[4 * tap + 2])
    return ((d * in_h + h) * in_w + w) * pitch + remainder(m, run), d, h, w


@device
def enter_pixel(table, slot, pixel, end, source, outer):
    """Enter the pixel of x at which this pixel of dy lies, and its position, in two words: d and the pixel, h and w.
    From `end` on, d is FAR.
    """
    in_d, in_h, in_w, _pitch, _run, step_d, step_h, step_w = source
    _n, out_d, out_h, out_w, _out_pitch = outer
    w, rest = remainder(pixel, out_w) * step_w, divide(pixel, out_w)
    h, rest = remainder(rest, out_h) * step_h, divide(rest, out_h)
    d, image = remainder(rest, out_d) * step_d, divide(rest, out_d)
    place = ((image * in_d + d) * in_h + h) * in_w + w
    table[np.uint64(2 * slot)] = ((d if pixel < end else FAR) << 32) | (place & LOW)
    table[np.uint64(2 * slot + 1)] = (h << 32) | w


@device
def pixel_of(table, slot):
    """The pixel of x."""
    return table[np.uint64(2 * slot)] & LOW


@device
def meets(table, slot, row, source):
    """Whether a row's tap meets the picture at a pixel."""
    first, second = table[np.uint64(2 * slot)], table[np.uint64(2 * slot + 1)]
    # `&`, because `and` would jump.
    inside = within(first >> 32, row[1], source[0]) & within(second >> 32, row[2], source[1])
    return inside & within(second & LOW, row[3], source[2])


@device
def start_of(tile, size_m, size_n, rows, columns):
    """(first row, first column, group) of a tile; tiles that are neighbours in number read the same dy."""
    down, across = divide(rows + size_m - 1, size_m), divide(columns + size_n - 1, size_n)
    rest = divide(tile, down)
    return remainder(tile, down) * size_m, remainder(rest, across) * size_n, divide(rest, across)


@device
def place_of(m, n, group, rows, columns, width):
    """Where element (m, n) of a group's gradient lies in its panels, `width` of the columns each."""
    return (group * columns + n - remainder(n, width)) * rows + m * width + remainder(n, width)
