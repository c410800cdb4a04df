"""What this machine can do at most: fused multiply-adds on registers, and memory traffic. Shares are taken of these
figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numba import prange

from nbcnn.kernels.cpu import threads
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.simd import add, broadcast, fma, lanes, load, store
from nbcnn.kernels.cpu.width import WIDTH_BYTES

__all__ = ["fma_gflops", "triad_gbytes"]

CHAINS = 12
"""Independent sums: two units of a latency of four cycles need eight, and twelve with two operands fit into 16
registers.
"""

REPEATS = 7
BLOCK = 1 << 16
"""Elements of an array that one task of the triad goes through."""


@serial
def _fma_chains(x, y, start, steps):  # type: ignore[no-untyped-def]
    """Twelve sums a = a * m + c that never leave their registers; y[start:start + lanes] keeps the compiler from
    dropping them.

    x: m, c and the twelve beginnings, a register each; they must differ, or the compiler might see that the sums are
    one.
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
def _fma_tasks(x, y, tasks, steps):  # type: ignore[no-untyped-def]
    for task in prange(tasks):
        _fma_chains(x, y, np.int64(task) * lanes(x), steps)


@serial
def _triad_block(a, b, c, scale, start, stop):  # type: ignore[no-untyped-def]
    """a = b + scale * c, in whole registers: stop - start is a multiple of their lanes."""
    factor = broadcast(a, scale)
    for i in range(start, stop, lanes(a)):
        store(a, i, fma(factor, load(c, i), load(b, i)))


@kernel
def _triad(a, b, c, scale, block):  # type: ignore[no-untyped-def]
    for task in prange(a.size // block):
        start = np.int64(task) * block
        _triad_block(a, b, c, scale, start, start + block)


def _fastest(call: Callable[[], None], repeats: int) -> float:
    """Seconds of the fastest call: a ceiling is what was reached once, whatever else ran meanwhile."""
    call()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def fma_gflops(count: int, steps: int = 2_000_000, repeats: int = REPEATS) -> float:
    """GFLOP/s of fused multiply-adds (two operations each) on registers, with `count` threads."""
    threads.use(count)
    width = WIDTH_BYTES // 4
    x = np.repeat(np.linspace(0.5, 0.8, CHAINS + 2, dtype=np.float32), width)
    y = np.empty(count * width, np.float32)
    seconds = _fastest(lambda: _fma_tasks(x, y, count, steps), repeats)
    return 2.0 * CHAINS * width * steps * count / seconds / 1e9


def triad_gbytes(count: int, megabytes: int = 128, repeats: int = REPEATS) -> float:
    """GB/s of a = b + s * c over arrays of so many megabytes each, with `count` threads; two reads and one write are
    counted.
    """
    threads.use(count)
    size = megabytes * (1 << 20) // 4 // BLOCK * BLOCK
    a, b, c = (np.ones(size, np.float32) for _ in range(3))
    scale = np.float32(2)
    seconds = _fastest(lambda: _triad(a, b, c, scale, BLOCK), repeats)
    return 3 * a.nbytes / seconds / 1e9
