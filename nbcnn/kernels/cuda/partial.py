"""Sums that many blocks share: each leaves its part in memory, and the parts are added in an order that is fixed."""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, kernel, launch, spread

__all__ = ["add_parts"]

WARP = 32
"""Elements of a block: threads side by side read one line of memory."""
GROUPS = BLOCK // WARP
"""Threads that share the parts of an element."""
APART = 4
"""Sums that a thread keeps apart, so that it need not wait for one element to read the next."""
PLACES = WARP * GROUPS
MANY = 1 << 16
"""Elements from which on there are threads enough with one for each."""


@kernel
def _add_in_turn(parts, y, count):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        total = parts[i]
        for part in range(1, count):
            total += parts[part * y.size + i]
        y[i] = total


@kernel
def _add_parts(parts, y, count):
    shared = cuda.shared.array(PLACES, y.dtype)
    sums = cuda.local.array(APART, y.dtype)
    i = cuda.blockIdx.x * WARP + cuda.threadIdx.x
    for k in range(APART):
        sums[k] = 0
    if i < y.size:
        for first in range(cuda.threadIdx.y, count, GROUPS * APART):
            for k in range(APART):
                part = first + k * GROUPS
                if part < count:
                    sums[k] += parts[part * y.size + i]
    shared[cuda.threadIdx.y * WARP + cuda.threadIdx.x] = (sums[0] + sums[1]) + (sums[2] + sums[3])
    cuda.syncthreads()
    if cuda.threadIdx.y == 0 and i < y.size:
        total = shared[cuda.threadIdx.x]
        for group in range(1, GROUPS):
            total += shared[group * WARP + cuda.threadIdx.x]
        y[i] = total


def add_parts(parts, y, count):
    """y = the sum over `count` parts; parts (count, y.size)."""
    if y.size >= MANY:
        spread(_add_in_turn, y.size, parts, y, count)
        return
    launch(_add_parts, -(-y.size // WARP), (WARP, GROUPS), parts, y, count)
