"""Where: choices between floats."""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import cuda, kernel, spread
from nbcnn.kernels.cuda.memory import WIDTH, gather, write
from nbcnn.kernels.cuda.walk import LAST, count_pieces, line_of, starts

__all__ = ["choose"]


@kernel
def _choose(c, a, b, y, pieces, shape, c_strides, a_strides, b_strides):
    mask = cuda.local.array(WIDTH, c.dtype)
    u = cuda.local.array(WIDTH, y.dtype)
    v = cuda.local.array(WIDTH, y.dtype)
    piece = cuda.grid(1)
    while piece < pieces:
        line, column = line_of(piece, shape)
        at_c, at_a, at_b = starts(line, shape, c_strides, a_strides, b_strides)
        left = shape[LAST] - column
        gather(c, at_c + column * c_strides[LAST], c_strides[LAST], left, mask)
        gather(a, at_a + column * a_strides[LAST], a_strides[LAST], left, u)
        gather(b, at_b + column * b_strides[LAST], b_strides[LAST], left, v)
        for k in range(WIDTH):
            u[k] = u[k] if mask[k] else v[k]
        write(y, line * shape[LAST] + column, left, u)
        piece += cuda.gridsize(1)


def choose(c, a, b, y, shape, c_strides, a_strides, b_strides):
    """y = a where c, else b; y may be a or b where that operand is not repeated.

    c: booleans. shape: six integers, the shape of y in memory order. c_strides, a_strides, b_strides: elements of each
    operand from one index to the next along each axis, 0 along which it is repeated.
    """
    pieces = count_pieces(shape)
    spread(_choose, pieces, c, a, b, y, pieces, shape, c_strides, a_strides, b_strides)
