"""Copies between two arrays that are walked with strides, and filling."""

from __future__ import annotations

from math import prod

from nbcnn.kernels.cuda._cuda import cuda, kernel, spread
from nbcnn.kernels.cuda.index import divide, remainder

__all__ = ["copy_strided", "fill"]


@kernel
def _copy(x, y, count, shape, x_start, x_strides, y_start, y_strides):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        rest, source, target = i, x_start, y_start
        for axis in range(5, -1, -1):
            place = remainder(rest, shape[axis])
            rest = divide(rest, shape[axis])
            source += place * x_strides[axis]
            target += place * y_strides[axis]
        y[target] = x[source]


def copy_strided(x, y, shape, x_start, x_strides, y_start, y_strides):
    """y[y_start + sum(i * y_strides)] = x[x_start + sum(i * x_strides)] for each index i below shape; y keeps the rest.

    shape, x_strides, y_strides: six integers each. Strides count elements; those of x may be negative or zero. x may
    have another element type.
    """
    spread(_copy, prod(shape), x, y, prod(shape), shape, x_start, x_strides, y_start, y_strides)


@kernel
def _fill(y, value):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = value


def fill(y, value):
    """Every element of y = value."""
    spread(_fill, y.size, y, value)
