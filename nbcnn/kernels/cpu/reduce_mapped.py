"""Reductions of what is first made of each element (its size, its square), products, and the gradient of a product."""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.reduce import COLUMNS
from nbcnn.kernels.opcodes import PRODUCT, SUM_OF_SIZES

__all__ = ["reduce_mapped", "reduce_product_grad"]


@serial
def _mapped_line(code, x, total):
    """total, which is 0 (1 for a product), with every element of one contiguous line."""
    if code == PRODUCT:
        for i in range(x.size):
            total *= x[i]
    elif code == SUM_OF_SIZES:
        for i in range(x.size):
            total += abs(x[i])
    else:
        for i in range(x.size):
            total += x[i] * x[i]
    return total


@serial
def _mapped_columns(code, x, y, rows, pitch, first):
    """y = the reduction of `rows` lines as long as y, which lie `pitch` elements apart in x."""
    y[:] = first
    for row in range(rows):
        # A slice, because an index that might be negative keeps the compiler from vectorizing.
        line = x[row * pitch : row * pitch + y.size]
        if code == PRODUCT:
            for i in range(y.size):
                y[i] *= line[i]
        elif code == SUM_OF_SIZES:
            for i in range(y.size):
                y[i] += abs(line[i])
        else:
            for i in range(y.size):
                y[i] += line[i] * line[i]


@kernel
def reduce_mapped(code, x, y, shape, block, scale):
    """y (outer, parts, inner) = scale times the reduction of each `block` rows of x (outer, rows, inner).

    code: PRODUCT, SUM_OF_SIZES or SUM_OF_SQUARES. shape: (outer, rows, inner); parts = rows / block, rounded up. rows
    is at least 1.
    """
    outer, rows, inner = shape
    parts = (rows + block - 1) // block
    chunks = (inner + COLUMNS - 1) // COLUMNS
    start = y.dtype.type(1) if code == PRODUCT else y.dtype.type(0)
    for index in prange(outer * parts * chunks):
        task = np.int64(index)
        column = task % chunks * COLUMNS
        part = task // chunks % parts
        image = task // chunks // parts
        count = min(block, rows - part * block)
        at = (image * rows + part * block) * inner + column
        place = (image * parts + part) * inner + column
        if inner == 1:
            y[place] = _mapped_line(code, x[at : at + count], start) * scale
        else:
            out = y[place : place + min(COLUMNS, inner - column)]
            _mapped_columns(code, x[at : at + count * inner], out, count, inner, start)
            if scale != 1:
                for i in range(out.size):
                    out[i] *= scale


@serial
def _place(number, shape, steps):
    """Where an element lies, given its number among those of a shape of six axes."""
    at = 0
    for axis in range(5, -1, -1):
        at += number % shape[axis] * steps[axis]
        number //= shape[axis]
    return at


@serial
def _product_grad(cell, x, dy, dx, kept, x_kept, y_kept, reduced, x_reduced):
    """All factors of one product: each gets dy times the product of the others, of those before and of those after."""
    at_x = _place(cell, kept, x_kept)
    total = reduced[0] * reduced[1] * reduced[2] * reduced[3] * reduced[4] * reduced[5]
    product = dy[_place(cell, kept, y_kept)]
    for item in range(total):
        at = at_x + _place(item, reduced, x_reduced)
        dx[at] = product
        product *= x[at]
    product = x.dtype.type(1)
    for item in range(total - 1, -1, -1):
        at = at_x + _place(item, reduced, x_reduced)
        dx[at] *= product
        product *= x[at]


@kernel
def reduce_product_grad(x, dy, dx, kept, x_kept, y_kept, reduced, x_reduced):
    """dx = dy times the product of the other factors.

    kept: shape of the axes that dy has; x_kept, y_kept: strides along them. reduced, x_reduced: shape and strides of
    the axes that it has not. Six integers each.
    """
    for index in prange(kept[0] * kept[1] * kept[2] * kept[3] * kept[4] * kept[5]):
        _product_grad(np.int64(index), x, dy, dx, kept, x_kept, y_kept, reduced, x_reduced)
