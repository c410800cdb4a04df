"""Reductions: rows of (outer, rows, inner) are brought together, a part of the rows by the lanes of a block at a time.

Four neighbours are brought together in the element type, everything else in float64.
"""

from __future__ import annotations

from math import prod

import numpy as np

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, device, kernel, launch, types
from nbcnn.kernels.cuda.block import combine, reduce_lanes, threads_for
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.opcodes import MAX, MIN, PRODUCT, SUM, SUM_OF_SIZES, SUM_OF_SQUARES

__all__ = ["lanes_of", "launch_reduction", "place_of", "reduce_max_grad", "reduce_rows"]


@device
def _mapped(code, value):
    """What is made of an element before it is brought together with others."""
    if code == SUM_OF_SIZES:
        return abs(value)
    return value * value if code == SUM_OF_SQUARES else value


@device
def _first(after, x, at):
    """What changes nothing: 0, 1, or an element that is there."""
    if after == SUM:
        return 0.0
    return 1.0 if after == PRODUCT else np.float64(x[at])


@device
def _sum(x, at, count, step):
    """The sum of `count` elements that lie `step` apart; at, step: unsigned."""
    total, two = 0.0, step + step
    for _ in range(count >> 2):
        total += np.float64((x[at] + x[at + step]) + (x[at + two] + x[at + two + step]))
        at += two + two
    for _ in range(count & 3):
        total += np.float64(x[at])
        at += step
    return total


@device
def _other(code, after, x, at, count, step):
    """The same of any code; after: how what is made of elements is brought together."""
    total, two = _first(after, x, at), step + step
    for _ in range(count >> 2):
        a, b, c, d = x[at], x[at + step], x[at + two], x[at + two + step]
        a, b = combine(after, _mapped(code, a), _mapped(code, b)), combine(after, _mapped(code, c), _mapped(code, d))
        total = combine(after, total, np.float64(combine(after, a, b)))
        at += two + two
    for _ in range(count & 3):
        total = combine(after, total, np.float64(_mapped(code, x[at])))
        at += step
    return total


@kernel
def _reduce(code, after, x, y, shape, block, scale):
    shared = cuda.shared.array(BLOCK, types.float64)
    outer, rows, inner = shape
    parts, tiles = divide(rows + block - 1, block), divide(inner + cuda.blockDim.x - 1, cuda.blockDim.x)
    task = cuda.blockIdx.x * cuda.blockDim.z + cuda.threadIdx.z
    rest = divide(task, tiles)
    column = remainder(task, tiles) * cuda.blockDim.x + cuda.threadIdx.x
    part, image = remainder(rest, parts), divide(rest, parts)
    inside = image < outer and column < inner
    # Lanes that have no row read the first one's, which a maximum may have twice.
    lane = cuda.threadIdx.y if inside else 0
    size = min(block, rows - part * block) if inside else 0
    count = divide(size - lane + cuda.blockDim.y - 1, cuda.blockDim.y) if lane < size else 0
    at = (image * rows + part * block) * inner + column if inside else 0
    first = at + lane * inner if count > 0 else at
    start, step = np.uint64(first), np.uint64(inner * cuda.blockDim.y)
    total = _sum(x, start, count, step) if code == SUM else _other(code, after, x, start, count, step)
    total = reduce_lanes(shared, after, total)
    if inside and cuda.threadIdx.y == 0:
        y[(image * parts + part) * inner + column] = y.dtype.type(total) * scale


def launch_reduction(code, x, y, shape, block, scale):
    """y (outer, parts, inner) = scale times the reduction of each `block` rows of x (outer, rows, inner), as any of
    opcodes.py says.
    """
    outer, rows, inner = shape
    threads = threads_for(inner, min(block, rows))
    tasks = outer * -(-rows // block) * -(-inner // threads[0])
    after = code if code in (MAX, MIN, PRODUCT) else SUM
    launch(_reduce, -(-tasks // threads[2]), threads, code, after, x, y, shape, block, scale)


def reduce_rows(code, x, y, shape, block, scale):
    """y (outer, parts, inner) = scale times the sum (or MAX, or MIN) of each `block` rows of x (outer, rows, inner).

    code: of opcodes.py. shape: (outer, rows, inner); parts = rows / block, rounded up. rows is at least 1.
    """
    launch_reduction(code, x, y, shape, block, scale)


# --- which element it was ---------------------------------------------------------------------------------------------


@device
def place_of(number, shape, steps):
    """Where an element lies, given its number among those of a shape of six axes."""
    at = 0
    for axis in range(5, -1, -1):
        at += remainder(number, shape[axis]) * steps[axis]
        number = divide(number, shape[axis])
    return at


@kernel
def _max_grad(x, y, dy, dx, kept, x_kept, y_kept, reduced, x_reduced, cells, total):
    shared = cuda.shared.array(BLOCK, types.float64)
    cell = cuda.blockIdx.x * cuda.blockDim.z + cuda.threadIdx.z
    end = total if cell < cells else 0
    at_x, at_y = place_of(cell, kept, x_kept), place_of(cell, kept, y_kept)
    first = np.float64(total)
    for item in range(cuda.threadIdx.y, end, cuda.blockDim.y):
        if x[at_x + place_of(item, reduced, x_reduced)] == y[at_y]:
            first = min(first, np.float64(item))
    first = reduce_lanes(shared, MIN, first)
    for item in range(cuda.threadIdx.y, end, cuda.blockDim.y):
        dx[at_x + place_of(item, reduced, x_reduced)] = dy[at_y] if np.float64(item) == first else dx.dtype.type(0)


def lanes_of(cells, total, most):
    """Blocks, and their shape, where lanes share out the `total` elements of each of `cells`."""
    x, y, z = threads_for(1, min(total, most))
    return -(-cells // z), (x, y, z)


def reduce_max_grad(x, y, dy, dx, kept, x_kept, y_kept, reduced, x_reduced):
    """dx = dy at the first of the elements that are equal to their maximum (or minimum) y, zero elsewhere.

    kept: shape of the axes that y has; x_kept, y_kept: strides along them. reduced, x_reduced: shape and strides of the
    axes that it has not, in the order in which "first" is meant. Six integers each.
    """
    cells, total = prod(kept), prod(reduced)
    blocks, threads = lanes_of(cells, total, total)
    walks = kept, x_kept, y_kept, reduced, x_reduced
    launch(_max_grad, blocks if total else 0, threads, x, y, dy, dx, *walks, cells, total)
