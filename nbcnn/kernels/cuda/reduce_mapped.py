"""Reductions of what is first made of each element (its size, its square), products, and the gradient of a product."""

from __future__ import annotations

from math import prod

import numpy as np

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, kernel, launch, types
from nbcnn.kernels.cuda.reduce import lanes_of, launch_reduction, place_of

__all__ = ["reduce_mapped", "reduce_product_grad"]

LANES = 32
"""Threads that share out the factors of one product; each reads what all of them have."""


def reduce_mapped(code, x, y, shape, block, scale):
    """y (outer, parts, inner) = scale times the reduction of each `block` rows of x (outer, rows, inner).

    code: PRODUCT, SUM_OF_SIZES or SUM_OF_SQUARES. shape: (outer, rows, inner); parts = rows / block, rounded up. rows
    is at least 1.
    """
    launch_reduction(code, x, y, shape, block, scale)


@kernel
def _product_grad(x, dy, dx, kept, x_kept, y_kept, reduced, x_reduced, cells, total):
    products = cuda.shared.array(BLOCK, types.float64)
    cell, lane, lanes = cuda.blockIdx.x * cuda.blockDim.z + cuda.threadIdx.z, cuda.threadIdx.y, cuda.blockDim.y
    share = (total + lanes - 1) // lanes
    begin = min(lane * share, total) if cell < cells else total
    end = min(begin + share, total)
    at_x, start = place_of(cell, kept, x_kept), cuda.threadIdx.z * lanes
    mine = 1.0
    for item in range(begin, end):
        mine *= np.float64(x[at_x + place_of(item, reduced, x_reduced)])
    products[start + lane] = mine
    cuda.syncthreads()
    before = np.float64(dy[place_of(cell, kept, y_kept)]) if begin < end else 1.0
    for other in range(lane):
        before *= products[start + other]
    behind = 1.0
    for other in range(lane + 1, lanes):
        behind *= products[start + other]
    for item in range(begin, end):
        at = at_x + place_of(item, reduced, x_reduced)
        dx[at] = before
        before *= np.float64(x[at])
    for item in range(end - 1, begin - 1, -1):
        at = at_x + place_of(item, reduced, x_reduced)
        dx[at] = np.float64(dx[at]) * behind
        behind *= np.float64(x[at])


def reduce_product_grad(x, dy, dx, kept, x_kept, y_kept, reduced, x_reduced):
    """dx = dy times the product of the other factors.

    kept: shape of the axes that dy has; x_kept, y_kept: strides along them. reduced, x_reduced: shape and strides of
    the axes that it has not. Six integers each.
    """
    cells, total = prod(kept), prod(reduced)
    blocks, threads = lanes_of(cells, total, LANES)
    walks = kept, x_kept, y_kept, reduced, x_reduced
    launch(_product_grad, blocks if total else 0, threads, x, dy, dx, *walks, cells, total)
