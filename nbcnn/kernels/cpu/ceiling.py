"""What this machine can do at most, as kernels: fused multiply-adds on registers alone, and a stream through memory.

They are no part of a plan; nbcnn/report/ceiling.py times them.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.simd import add, broadcast, fma, lanes, load, store

__all__ = ["CHAINS", "fma_chains", "triad"]

CHAINS = 12
"""Independent sums: two units of a latency of four cycles need eight, and twelve with two operands fit into 16
registers.
"""


@serial
def _chains(x, y, start, steps):
    """Twelve sums a = a * m + c that never leave their registers; y[start:start + lanes] keeps the compiler from
    dropping them.
    """
    n = lanes(x)
    m, c = load(x, 0), load(x, n)
    a0, a1, a2, a3 = load(x, 2 * n), load(x, 3 * n), load(x, 4 * n), load(x, 5 * n)
    a4, a5, a6, a7 = load(x, 6 * n), load(x, 7 * n), load(x, 8 * n), load(x, 9 * n)
    a8, a9, a10, a11 = load(x, 10 * n), load(x, 11 * n), load(x, 12 * n), load(x, 13 * n)
    for _ in range(steps):
        a0, a1, a2, a3 = fma(a0, m, c), fma(a1, m, c), fma(a2, m, c), fma(a3, m, c)
        a4, a5, a6, a7 = fma(a4, m, c), fma(a5, m, c), fma(a6, m, c), fma(a7, m, c)
        a8, a9, a10, a11 = fma(a8, m, c), fma(a9, m, c), fma(a10, m, c), fma(a11, m, c)
    low = add(add(add(a0, a1), add(a2, a3)), add(a4, a5))
    high = add(add(add(a6, a7), add(a8, a9)), add(a10, a11))
    store(y, start, add(low, high))


@kernel
def fma_chains(x, y, tasks, steps):
    """`tasks` times CHAINS sums of `steps` fused multiply-adds each, a register wide.

    x: m, c and the CHAINS beginnings, a register each; they must differ, or the compiler might see that the sums are
    one. y: a register for each task.
    """
    for task in prange(tasks):
        _chains(x, y, np.int64(task) * lanes(x), steps)


@serial
def _triad_block(a, b, c, scale, start, stop):
    """In whole registers: stop - start is a multiple of their lanes."""
    factor = broadcast(a, scale)
    for i in range(start, stop, lanes(a)):
        store(a, i, fma(factor, load(c, i), load(b, i)))


@kernel
def triad(a, b, c, scale, block):
    """a = b + scale * c; their size is a multiple of `block`, which is one of the lanes."""
    for task in prange(a.size // block):
        start = np.int64(task) * block
        _triad_block(a, b, c, scale, start, start + block)
