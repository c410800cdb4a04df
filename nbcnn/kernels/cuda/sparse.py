"""The product of a sparse matrix and a dense array along one of its axes: to gather, to resize, to pad with copies."""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import cuda, kernel, spread
from nbcnn.kernels.cuda.channels import columns, lanes_of
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.memory import get

__all__ = ["sparse_along_axis"]


@kernel
def _sparse(x, y, starts, taps, weights, count, lanes, shape, empty):
    i = cuda.grid(1)
    while i < count:
        _, size, inner = shape
        line, rows = divide(i, lanes), starts.size - 1
        p, q, r, s = columns(remainder(i, lanes), lanes, inner)
        block = divide(line, rows)
        row = line - block * rows
        tap, last = get(starts, row), get(starts, row + 1)
        a = b = c = d = empty
        if tap < last:
            weight, at = get(weights, tap), (block * size + get(taps, tap)) * inner
            a, b = weight * get(x, at + p), weight * get(x, at + q)
            c, d = weight * get(x, at + r), weight * get(x, at + s)
            tap += 1
        while tap < last:
            weight, at = get(weights, tap), (block * size + get(taps, tap)) * inner
            a, b = a + weight * get(x, at + p), b + weight * get(x, at + q)
            c, d = c + weight * get(x, at + r), d + weight * get(x, at + s)
            tap += 1
        place = line * inner
        y[place + p], y[place + q], y[place + r], y[place + s] = a, b, c, d
        i += cuda.gridsize(1)


def sparse_along_axis(x, y, starts, columns, weights, shape, empty):
    """y (outer, rows, inner) = matrix (rows, size) times x (outer, size, inner), along the middle axis.

    shape: (outer, size, inner). The matrix is in CSR form: row r has weights[k] in column columns[k] for k from
    starts[r] up to starts[r + 1]. Rows without any become `empty`.
    """
    lanes = lanes_of(shape[2])
    count = shape[0] * (starts.size - 1) * lanes
    spread(_sparse, count, x, y, starts, columns, weights, count, lanes, shape, empty)
