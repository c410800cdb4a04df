"""Device code that does nothing but multiply in registers."""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import cuda, kernel
from nbcnn.kernels.cuda.mma import multiply, multiply_bfloat16, multiply_float16, tf32, zeros
from nbcnn.kernels.cuda.unroll import each, inlined

__all__ = ["multiply_add", "multiply_tiles", "multiply_tiles_bfloat16", "multiply_tiles_float16"]


@inlined
def _multiply_add(s, k, factors):
    return s * factors[0] + factors[1]


@kernel
def multiply_add(y, turns, start):
    """y[thread] = what `turns` times as many multiply-adds as start (float32) has elements come to."""
    thread = cuda.grid(1)
    factors = start[0], y[thread] * start[0]
    sums = start
    for _ in range(turns):
        sums = each(_multiply_add, sums, factors)
    total = sums[0]
    for s in sums:
        total += s
    y[thread] = total


@inlined
def _left(value, k, nothing):
    return value, value, value, value


@inlined
def _right(value, k, nothing):
    return value, value


@inlined
def _rounded(value, k, nothing):
    return tf32(value)


@inlined
def _multiply(product, y, turns, rows, columns, sums):
    """rows, columns: what the elements of each row's and each column's fragments are."""
    a, b = each(_left, rows, 0), each(_right, columns, 0)
    for _ in range(turns):
        sums = product(sums, a, b)
    total = sums[0][0]
    for fragment in sums:
        total += fragment[0] + fragment[1] + fragment[2] + fragment[3]
    y[cuda.grid(1)] = total


@kernel
def multiply_tiles(y, turns, rows, columns):
    """y[thread] = an element of what a warp's tiles come to. rows, columns: float32, one for each row and column of
    tiles of 16 by 8; each turn adds the product of a (16, 8) and an (8, 8) matrix to each tile, in TF32.
    """
    left, right = each(_rounded, rows, 0), each(_rounded, columns, 0)
    _multiply(multiply, y, turns, left, right, zeros(rows, columns))


@kernel
def multiply_tiles_float16(y, turns, rows, columns):
    """As multiply_tiles, where rows and columns are words of two float16, and the depth is 16."""
    _multiply(multiply_float16, y, turns, rows, columns, zeros(rows, columns))


@kernel
def multiply_tiles_bfloat16(y, turns, rows, columns):
    """As multiply_tiles_float16, of bfloat16."""
    _multiply(multiply_bfloat16, y, turns, rows, columns, zeros(rows, columns))
