"""Products of stacks of matrices, of any strides: a block makes a square of y from strips of a and b in shared memory,
a thread 4 by 4 elements that lie `SIDE` apart, so that threads side by side meet different banks.
"""

from __future__ import annotations

from math import prod

from nbcnn.kernels.cuda._cuda import SIMULATED, cuda, device, kernel, launch
from nbcnn.kernels.cuda.index import divide, remainder

__all__ = ["matmul_batched"]

SIDE = 4 if SIMULATED else 16
"""Threads along each side of a block, and depth of a strip."""
EACH = 4
"""Elements of y of a thread along each side."""
SQUARE = SIDE * EACH
PITCH = SQUARE + 2
"""From depth to depth of a strip: threads of half a warp that walk along the depth meet different banks."""
STRIP, SUMS = SIDE * PITCH, (EACH, EACH)


@device
def _load_strip(strip, x, start, first, size, step, depth0, depth, by_depth):
    """strip[k, i] = x[start + (first + i) * step + (depth0 + k) * by_depth], zeros beyond size and depth."""
    thread = cuda.threadIdx.y * SIDE + cuda.threadIdx.x
    for part in range(EACH):
        number = part * SIDE * SIDE + thread
        # Threads side by side go where elements lie side by side.
        along = by_depth == 1
        k, i = (number % SIDE, number // SIDE) if along else (number // SQUARE, number % SQUARE)
        inside = first + i < size and depth0 + k < depth
        place = start + (first + i) * step + (depth0 + k) * by_depth
        strip[k * PITCH + i] = x[place] if inside else x.dtype.type(0)


@kernel
def _matmul(a, b, y, stack, a_stack, b_stack, shape, a_strides, b_strides):
    a_strip = cuda.shared.array(STRIP, y.dtype)
    b_strip = cuda.shared.array(STRIP, y.dtype)
    sums = cuda.local.array(SUMS, y.dtype)
    rows, columns, depth = shape
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    across, down = divide(columns + SQUARE - 1, SQUARE), divide(rows + SQUARE - 1, SQUARE)
    column0, rest = remainder(cuda.blockIdx.x, across) * SQUARE, divide(cuda.blockIdx.x, across)
    row0, matrix = remainder(rest, down) * SQUARE, divide(rest, down)
    at_a, at_b, rest = 0, 0, matrix
    for axis in range(3, -1, -1):
        place, rest = remainder(rest, stack[axis]), divide(rest, stack[axis])
        at_a += place * a_stack[axis]
        at_b += place * b_stack[axis]
    for i in range(EACH):
        for j in range(EACH):
            sums[i, j] = 0
    for depth0 in range(0, depth, SIDE):
        _load_strip(a_strip, a, at_a, row0, rows, a_strides[0], depth0, depth, a_strides[1])
        _load_strip(b_strip, b, at_b, column0, columns, b_strides[1], depth0, depth, b_strides[0])
        cuda.syncthreads()
        for k in range(SIDE):
            for i in range(EACH):
                for j in range(EACH):
                    sums[i, j] += a_strip[k * PITCH + ty + i * SIDE] * b_strip[k * PITCH + tx + j * SIDE]
        cuda.syncthreads()
    for i in range(EACH):
        for j in range(EACH):
            row, column = row0 + ty + i * SIDE, column0 + tx + j * SIDE
            if row < rows and column < columns:
                y[(matrix * rows + row) * columns + column] = sums[i, j]


def matmul_batched(a, b, y, stack, a_stack, b_stack, shape, a_strides, b_strides):
    """y (*stack, rows, columns) = a (*stack, rows, depth) times b (*stack, depth, columns).

    stack: four integers. a_stack, b_stack: elements from matrix to matrix along each, 0 along which an operand is
    repeated. shape: (rows, columns, depth). a_strides: elements along (rows, depth); b_strides: along (depth, columns).
    """
    blocks = prod(stack) * -(-shape[0] // SQUARE) * -(-shape[1] // SQUARE)
    launch(_matmul, blocks, (SIDE, SIDE), a, b, y, stack, a_stack, b_stack, shape, a_strides, b_strides)
