"""Copies between two arrays that are walked with strides (to transpose, slice, join, pad, broadcast), and filling."""

from __future__ import annotations

from math import prod

from nbcnn.kernels.cuda._cuda import SIMULATED, WAVES, cuda, kernel, launch, spread
from nbcnn.kernels.cuda.index import divide
from nbcnn.kernels.cuda.memory import WIDTH, gather, write
from nbcnn.kernels.cuda.walk import LAST, count_pieces, line_of, starts

__all__ = ["copy_strided", "fill"]

TILE = 8 if SIMULATED else 32
"""Rows and columns that a block transposes at once."""
PITCH = TILE + 1
"""A column more than there are keeps the accesses along a column from hitting one bank of shared memory."""
DEPTH = 4
"""Elements of a tile that each thread takes."""
NARROW = 8
"""Rows or columns below which most of a tile would be empty."""


@kernel
def _copy_lines(x, y, pieces, shape, x_start, x_strides, y_start, y_strides):
    """Where y is contiguous along the last axis, and x is so, too, or is repeated along it."""
    v = cuda.local.array(WIDTH, x.dtype)
    piece = cuda.grid(1)
    while piece < pieces:
        line, column = line_of(piece, shape)
        x_at, y_at, _ = starts(line, shape, x_strides, y_strides, y_strides)
        left = shape[LAST] - column
        gather(x, x_start + x_at + column * x_strides[LAST], x_strides[LAST], left, v)
        write(y, y_start + y_at + column, left, v)
        piece += cuda.gridsize(1)


@kernel
def _copy_elements(x, y, count, shape, x_start, x_strides, y_start, y_strides):
    """Anything, with neighbours along the last axis in neighbouring threads."""
    i = cuda.grid(1)
    while i < count:
        line = divide(i, shape[LAST])
        x_at, y_at, _ = starts(line, shape, x_strides, y_strides, y_strides)
        column = i - line * shape[LAST]
        y[y_start + y_at + column * y_strides[LAST]] = x[x_start + x_at + column * x_strides[LAST]]
        i += cuda.gridsize(1)


@kernel
def _copy_tiles(x, y, tiles, shape, x_start, x_strides, y_start, y_strides):
    """Where x is contiguous along the last axis but one and y along the last: through shared memory, so that both are
    accessed along their lines.
    """
    tile = cuda.shared.array((TILE, PITCH), x.dtype)
    v = cuda.local.array(DEPTH, x.dtype)
    i, j, step = cuda.threadIdx.x, cuda.threadIdx.y, TILE // DEPTH
    across, down = (shape[LAST] + TILE - 1) // TILE, (shape[LAST - 1] + TILE - 1) // TILE
    index = cuda.blockIdx.x
    while index < tiles:
        rest = divide(index, across)
        outer = divide(rest, down)
        column, row = (index - rest * across) * TILE, (rest - outer * down) * TILE
        x_at, y_at, _ = starts(outer * shape[LAST - 1], shape, x_strides, y_strides, y_strides)
        for k in range(DEPTH):  # all are under way before the first is needed
            c = column + j + k * step
            if row + i < shape[LAST - 1] and c < shape[LAST]:
                v[k] = x[x_start + x_at + row + i + c * x_strides[LAST]]
        for k in range(DEPTH):
            tile[j + k * step, i] = v[k]
        cuda.syncthreads()
        for k in range(DEPTH):
            r = row + j + k * step
            if r < shape[LAST - 1] and column + i < shape[LAST]:
                y[y_start + y_at + r * y_strides[LAST - 1] + column + i] = tile[i, j + k * step]
        cuda.syncthreads()
        index += cuda.gridDim.x


def copy_strided(x, y, shape, x_start, x_strides, y_start, y_strides):
    """y[y_start + sum(i * y_strides)] = x[x_start + sum(i * x_strides)] for each index i below shape; y keeps the rest.

    shape, x_strides, y_strides: six integers each. Strides count elements; those of x may be negative or zero. The last
    axis should be the one along which y is contiguous, the last but one that along which x is, where that is another.
    x may have another element type.
    """
    if y_strides[LAST] == 1 and x_strides[LAST] in (0, 1):
        pieces = count_pieces(shape)
        spread(_copy_lines, pieces, x, y, pieces, shape, x_start, x_strides, y_start, y_strides)
        return
    transposes = y_strides[LAST] == 1 and x_strides[LAST - 1] == 1
    if transposes and min(shape[LAST - 1 :]) >= NARROW:
        tiles = prod(shape[: LAST - 1]) * -(-shape[LAST - 1] // TILE) * -(-shape[LAST] // TILE)
        grid, block = min(tiles, WAVES), (TILE, TILE // DEPTH)
        launch(_copy_tiles, grid, block, x, y, tiles, shape, x_start, x_strides, y_start, y_strides)
        return
    if transposes and shape[LAST - 1] < shape[LAST]:  # the short axis last: neighbours stay near on both sides
        shape, x_strides, y_strides = ((*t[: LAST - 1], t[LAST], t[LAST - 1]) for t in (shape, x_strides, y_strides))
    spread(_copy_elements, prod(shape), x, y, prod(shape), shape, x_start, x_strides, y_start, y_strides)


@kernel
def _fill(y, value):
    v = cuda.local.array(WIDTH, y.dtype)
    for k in range(WIDTH):
        v[k] = value
    at = cuda.grid(1) * WIDTH
    while at < y.size:
        write(y, at, y.size - at, v)
        at += cuda.gridsize(1) * WIDTH


def fill(y, value):
    """Every element of y = value."""
    spread(_fill, -(-y.size // WIDTH), y, value)
