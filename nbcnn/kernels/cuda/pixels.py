"""Where the pixels of a convolution lie: shared by its kernels. grid, source and target: see conv.py."""

from __future__ import annotations

from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.unroll import inlined

__all__ = ["clamp", "count", "locate", "row_of", "start_of", "tap_start"]


@inlined
def count(grid):
    """Pixels of a grid."""
    return grid[0] * grid[1] * grid[2] * grid[3]


@inlined
def locate(pixel, grid):
    """(image, d, h, w) of the grid's pixel of this number."""
    line, w = divide(pixel, grid[3]), remainder(pixel, grid[3])
    plane, h = divide(line, grid[2]), remainder(line, grid[2])
    return divide(plane, grid[1]), remainder(plane, grid[1]), h, w


@inlined
def start_of(position, source):
    """(element of x, d, h, w): where a position of the grid lies in x."""
    image, d, h, w = position
    in_d, in_h, in_w, pitch, _run, step_d, step_h, step_w = source
    d, h, w = d * step_d, h * step_h, w * step_w
    return (((image * in_d + d) * in_h + h) * in_w + w) * pitch, d, h, w


@inlined
def tap_start(start, move, source):
    """The element of x that a tap, whose moves along d, h and w are given, reads first; -1 where it falls off the
    picture.
    """
    place, d, h, w = start
    move_d, move_h, move_w = move
    in_d, in_h, in_w, pitch = source[0], source[1], source[2], source[3]
    d, h, w = d + move_d, h + move_h, w + move_w
    if (d >= 0) & (d < in_d) & (h >= 0) & (h < in_h) & (w >= 0) & (w < in_w):
        return place + ((move_d * in_h + move_h) * in_w + move_w) * pitch
    return -1


@inlined
def row_of(position, target):
    """The element of y where a position of the grid begins."""
    image, d, h, w = position
    out_d, out_h, out_w, pitch, at_d, at_h, at_w, jump_d, jump_h, jump_w = target
    line = (image * out_d + at_d + d * jump_d) * out_h + at_h + h * jump_h
    return (line * out_w + at_w + w * jump_w) * pitch


@inlined
def clamp(value, low, high):
    """A number held between two; NaN stays NaN."""
    floor = low if value < low else value
    return high if floor > high else floor
