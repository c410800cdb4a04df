"""Reductions by the threads of a block, in an order that depends on nothing but its shape.

A block is (columns, lanes, lines) threads, all three powers of two, BLOCK in all: what lies side by side in memory
along x, what is reduced along y, and more of the same along z. Values are brought together in float64, which holds
every float32 and every index; each thread of a column gets the result. All threads of a block must call these.

shared: an array of BLOCK elements in float64 in the block's memory. A kernel makes it: two functions that make one each
cannot both be called by a third.
"""

from __future__ import annotations

from math import isnan

from nbcnn.kernels.cuda._cuda import BLOCK, SIMULATED, cuda, device
from nbcnn.kernels.cuda.row_parts import COLUMNS, power_of_two
from nbcnn.kernels.opcodes import MAX, PRODUCT, SUM

__all__ = ["combine", "larger", "reduce_block", "reduce_lanes", "sum_block", "sum_lanes", "threads_for"]

WARP = 1 if SIMULATED else 32
"""Neighbours that hand each other values without shared memory."""
LINES = 64
"""The most threads that a block may have along z."""
WIDEST = 8 if SIMULATED else COLUMNS


def threads_for(columns: int, count: int, share: int = 4) -> tuple[int, int, int]:
    """The shape of a block for lines of `count` elements, of which `columns` lie side by side, and of which a thread
    takes about `share`.
    """
    x = min(power_of_two(columns), WIDEST)
    y = max(min(power_of_two(-(-count // share)), BLOCK // x), BLOCK // (x * LINES))
    return x, y, BLOCK // (x * y)


@device
def larger(code, a, b):
    """The larger (MAX) or smaller of two; NaN wins."""
    if code == MAX:
        return a if a >= b or isnan(a) else b
    return a if a <= b or isnan(a) else b


@device
def combine(code, a, b):
    """Of SUM, PRODUCT, MAX and MIN."""
    if code == SUM:
        return a + b
    if code == PRODUCT:
        return a * b
    return larger(code, a, b)


@device
def _reduce(shared, code, value, start, place, count, width):
    """Over the values at place, place + width, ... of the `count` threads from `start` on."""
    narrow = max(width, WARP)
    if count > narrow:
        shared[start + place] = value
        cuda.syncthreads()
        reach = count >> 1
        while reach >= narrow:
            if place < reach:
                shared[start + place] = combine(code, shared[start + place], shared[start + place + reach])
            cuda.syncthreads()
            reach >>= 1
        value = shared[start + (place & (narrow - 1))]
        cuda.syncthreads()
    if not SIMULATED:
        reach = min(count, narrow) >> 1
        while reach >= width:
            value = combine(code, value, cuda.shfl_xor_sync(0xFFFFFFFF, value, reach))
            reach >>= 1
    return value


@device
def reduce_lanes(shared, code, value):
    """Over threadIdx.y."""
    width = cuda.blockDim.x
    count = width * cuda.blockDim.y
    place = cuda.threadIdx.y * width + cuda.threadIdx.x
    return _reduce(shared, code, value, cuda.threadIdx.z * count, place, count, width)


@device
def sum_lanes(shared, value):
    """The sum over threadIdx.y."""
    return reduce_lanes(shared, SUM, value)


@device
def reduce_block(shared, code, value):
    """Over all threads of the block."""
    across = cuda.blockDim.x * cuda.blockDim.y
    place = cuda.threadIdx.z * across + cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    return _reduce(shared, code, value, 0, place, across * cuda.blockDim.z, 1)


@device
def sum_block(shared, value):
    """The sum over all threads of the block."""
    return reduce_block(shared, SUM, value)
