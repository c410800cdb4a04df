"""The product of one row by packed weights, as fast as memory gives them: Gemm for a single sample."""

from __future__ import annotations

from nbcnn.kernels.cuda import pointwise
from nbcnn.kernels.cuda._cuda import SIMULATED, cuda, device, kernel, launch
from nbcnn.kernels.cuda.halves import is_half
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.memory import WIDTH, load, load_pairs
from nbcnn.kernels.cuda.panels import panels_of
from nbcnn.kernels.cuda.pixels import clamp
from nbcnn.kernels.cuda.unroll import inlined

__all__ = ["vector_product"]

THREADS = 32 if SIMULATED else 512
SUMS = WIDTH * THREADS
"""Elements of shared memory: four sums of each thread."""
BLOCKS = 256
"""Blocks that keep all of a GPU's multiprocessors loading."""
LANES = (32, 16, 8)
"""Lanes of a panel that a block may take: 32 bytes, which memory gives at once, are the least."""


@inlined
def _step(sums, x, w, c, place):
    """sums + x[c] times four neighbouring weights."""
    a, b, d, e = load(w, place)
    value = x[c]
    return sums[0] + value * a, sums[1] + value * b, sums[2] + value * d, sums[3] + value * e


@inlined
def _step_in_pairs(sums, x, w, c, place):
    """sums + x[2 c] times four neighbouring weights + x[2 c + 1] times those beside them: w is in the order of pairs,
    and c and place count pairs.
    """
    a, b, d, e = load_pairs(w, 2 * place)
    u, v = x[2 * c], x[2 * c + 1]
    return (
        sums[0] + u * a[0] + v * a[1],
        sums[1] + u * b[0] + v * b[1],
        sums[2] + u * d[0] + v * d[1],
        sums[3] + u * e[0] + v * e[1],
    )


@device
def _add_up(parts, mine, across):
    """Sum up, in parts[thread], parts[thread + THREADS], ... of the first `across` threads, the four sums of each
    thread, which has the lanes that the thread so many before it has.
    """
    thread = cuda.threadIdx.x
    parts[thread], parts[THREADS + thread] = mine[0], mine[1]
    parts[2 * THREADS + thread], parts[3 * THREADS + thread] = mine[2], mine[3]
    cuda.syncthreads()
    half = THREADS // 2
    while half >= across:
        if thread < half:
            for i in range(thread, SUMS, THREADS):
                parts[i] += parts[i + half]
        cuda.syncthreads()
        half //= 2


@inlined
def _multiply(step, x, w, bias, residual, y, depth, channels, width, lanes, low, high):
    parts = cuda.shared.array(SUMS, y.dtype)
    across = lanes // WIDTH
    column = cuda.blockIdx.x * lanes
    at = divide(column, width) * depth * width + remainder(column, width) + WIDTH * (cuda.threadIdx.x % across)
    rows = THREADS // across
    zero = y.dtype.type(0)
    even, odd = (zero, zero, zero, zero), (zero, zero, zero, zero)
    c = cuda.threadIdx.x // across
    while c + 3 * rows < depth:  # four loads under way at a time
        even, odd = step(even, x, w, c, at + c * width), step(odd, x, w, c + rows, at + (c + rows) * width)
        c += 2 * rows
        even, odd = step(even, x, w, c, at + c * width), step(odd, x, w, c + rows, at + (c + rows) * width)
        c += 2 * rows
    while c < depth:
        even = step(even, x, w, c, at + c * width)
        c += rows
    _add_up(parts, (even[0] + odd[0], even[1] + odd[1], even[2] + odd[2], even[3] + odd[3]), across)
    lane = cuda.threadIdx.x
    place = column + lane
    if lane < lanes and place < channels:
        value = parts[lane % WIDTH * THREADS + lane // WIDTH]
        if bias.size > 0:
            value += bias[place]
        if residual.size > 0:
            value += residual[place]
        y[place] = clamp(value, low, high)


@kernel
def _product(x, w, bias, residual, y, depth, channels, width, lanes, low, high):
    _multiply(_step, x, w, bias, residual, y, depth, channels, width, lanes, low, high)


@kernel
def _product_of_pairs(x, w, bias, residual, y, depth, channels, width, lanes, low, high):
    _multiply(_step_in_pairs, x, w, bias, residual, y, depth, channels, width, lanes, low, high)


def vector_product(x, w, bias, residual, y, dims, low, high):
    """y = clamp(bias + residual + x times w, low, high), for one row, in full precision.

    x (depth), y and residual (channels), bias (channels): flat; bias and residual may be empty, and the residual may be
    y itself. w: packed weights of one group, in the order of pairs if they have 16 bits. dims: (depth, channels).
    """
    depth, channels = dims
    width, panels = panels_of(channels, w)
    if width % WIDTH:  # two float64 to a register
        pointwise.conv_pointwise_fp32(x, w, bias, residual, y, None, (1, depth, channels, channels), None, low, high)
        return
    fitting = [lanes for lanes in LANES if width % lanes == 0] or [width]
    lanes = next((lanes for lanes in fitting if panels * width // lanes >= BLOCKS), fitting[-1])
    code, depth = (_product_of_pairs, depth // 2) if is_half(w) else (_product, depth)
    launch(code, -(-channels // lanes), THREADS, x, w, bias, residual, y, depth, channels, width, lanes, low, high)
