"""Local response normalization across channels: x is (rows, channels), flat, a row being one pixel of one picture.

y[c] = x[c] / base[c]^beta, base[c] = bias + share * (sum of x^2 over the channels c - before .. c + after). `dims` is
(rows, channels), `reach` (before, after). A thread sums up its own window, which its neighbours have brought to the
cache.
"""

from __future__ import annotations

from math import pow, sqrt

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, device, kernel, launch, spread, types
from nbcnn.kernels.cuda.index import remainder

__all__ = ["lrn", "lrn_grad"]


@device
def _base(x, i, channels, before, after, share, bias):
    """The base of the element at i."""
    c, total = remainder(i, channels), x.dtype.type(0)
    for k in range(i - min(before, c), i + min(after, channels - 1 - c) + 1):
        total += x[k] * x[k]
    return bias + share * total


@device
def _power(base, beta):
    """The base to the power beta."""
    if beta == 0.75:  # AlexNet's and everybody's: two square roots instead of a power
        root = sqrt(base)
        return root * sqrt(root)
    return pow(base, beta)


@kernel
def _lrn(x, y, channels, reach, share, beta, bias):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = x[i] / x.dtype.type(_power(_base(x, i, channels, reach[0], reach[1], share, bias), beta))


def lrn(x, y, scratch, dims, reach, share, beta, bias):
    """y = x normalized. scratch: not needed. share, beta, bias: scalars of the element type."""
    spread(_lrn, dims[0] * dims[1], x, y, dims[1], reach, share, beta, bias)


@kernel
def _grad(x, dy, dx, channels, reach, share, beta, bias, factor, count):
    """A block of threads works on `count` elements: it needs dy x base^(-beta - 1) of these and of those around them,
    BLOCK at a time, in shared memory.
    """
    pulls = cuda.shared.array(BLOCK, types.float64)
    before, after = reach
    begin, t = cuda.blockIdx.x * count, cuda.threadIdx.x
    i, end = begin + t, min(begin + count, x.size)
    mine = i < end
    c = remainder(i, channels)
    # Channel c takes part in the bases of the channels c - after .. c + before.
    low, high = i - min(after, c), i + min(before, channels - 1 - c)
    power, total = x.dtype.type(1), 0.0
    for start in range(begin - after, end + before, BLOCK):
        k = start + t
        if 0 <= k < x.size:
            base = _base(x, k, channels, before, after, share, bias)
            own = x.dtype.type(_power(base, beta))
            pulls[t] = dy[k] * x[k] / (own * base)
        cuda.syncthreads()
        if mine:
            for k in range(max(low, start), min(high + 1, start + BLOCK)):
                total += pulls[k - start]
        cuda.syncthreads()
    if mine:
        power = x.dtype.type(_power(_base(x, i, channels, before, after, share, bias), beta))
        dx[i] = dy[i] / power - factor * x[i] * x.dtype.type(total)


def lrn_grad(x, dy, dx, scratch, dims, reach, share, beta, bias, factor):
    """dx = dy / base^beta - factor * x * (sum over the channels j that x is near to of dy x base^(-beta - 1)).

    factor: 2 * share * beta, a scalar of the element type. The others as in lrn.
    """
    # So many that with those around them they fit into the block's memory at once, unless they reach too far.
    count = max(BLOCK - reach[0] - reach[1], BLOCK // 2)
    size = dims[0] * dims[1]
    launch(_grad, -(-size // count), BLOCK, x, dy, dx, dims[1], reach, share, beta, bias, factor, count)
