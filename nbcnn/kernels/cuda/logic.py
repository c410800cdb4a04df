"""Comparisons of floats that broadcast."""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import cuda, kernel, spread
from nbcnn.kernels.cuda.memory import WIDTH, gather, write
from nbcnn.kernels.cuda.walk import LAST, count_pieces, line_of, starts
from nbcnn.kernels.opcodes import EQUAL, GREATER

__all__ = ["compare"]


@kernel
def _compare(code, a, b, y, pieces, shape, a_strides, b_strides):
    u = cuda.local.array(WIDTH, a.dtype)
    v = cuda.local.array(WIDTH, a.dtype)
    holds = cuda.local.array(WIDTH, y.dtype)
    piece = cuda.grid(1)
    while piece < pieces:
        line, column = line_of(piece, shape)
        at_a, at_b, _ = starts(line, shape, a_strides, b_strides, b_strides)
        left = shape[LAST] - column
        gather(a, at_a + column * a_strides[LAST], a_strides[LAST], left, u)
        gather(b, at_b + column * b_strides[LAST], b_strides[LAST], left, v)
        for k in range(WIDTH):
            equal, greater = u[k] == v[k], u[k] > v[k]
            holds[k] = equal if code == EQUAL else greater or (equal and code != GREATER)
        write(y, line * shape[LAST] + column, left, holds)
        piece += cuda.gridsize(1)


def compare(code, a, b, y, shape, a_strides, b_strides):
    """y = a op b, booleans. code: EQUAL, GREATER or GREATER_EQUAL.

    shape: six integers, the shape of y in memory order. a_strides, b_strides: elements of a and b from one index to the
    next along each axis, 0 along which it is repeated.
    """
    pieces = count_pieces(shape)
    spread(_compare, pieces, code, a, b, y, pieces, shape, a_strides, b_strides)
