"""What this machine can do at most: fused multiply-adds on registers, and memory traffic. Shares are taken of these
figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

__all__ = ["fma_gflops", "triad_call", "triad_gbytes"]

SECONDS = 0.4
"""How long each ceiling is looked for."""
BLOCK = 1 << 16
"""Elements of an array that one task of the triad goes through."""


def fma_gflops(count: int, seconds: float = SECONDS, steps: int = 2_000_000) -> float:
    """GFLOP/s of fused multiply-adds (two operations each) on registers, in float32 with `count` threads."""
    from nbcnn.kernels.cpu import threads
    from nbcnn.kernels.cpu.ceiling import CHAINS, fma_chains
    from nbcnn.kernels.cpu.width import WIDTH_BYTES

    threads.use(count)
    width = WIDTH_BYTES // 4
    x = np.repeat(np.linspace(0.5, 0.8, CHAINS + 2, dtype=np.float32), width)
    y = np.empty(count * width, np.float32)
    best = _fastest(lambda: fma_chains(x, y, count, steps), seconds)
    return 2.0 * CHAINS * width * steps * count / best / 1e9


def triad_gbytes(count: int, seconds: float = SECONDS, megabytes: int = 128) -> float:
    """GB/s of a = b + s * c over arrays of so many megabytes each, with `count` threads; two reads and one write are
    counted.
    """
    call, moved = triad_call(count, megabytes)
    return moved / _fastest(call, seconds) / 1e9


def triad_call(count: int, megabytes: int = 128) -> tuple[Callable[[], None], int]:
    """What `triad_gbytes` times, for those who time it beside something else, and the bytes that are counted."""
    from nbcnn.kernels.cpu import threads
    from nbcnn.kernels.cpu.ceiling import triad

    size = megabytes * (1 << 20) // 4 // BLOCK * BLOCK
    a, b, c = (np.ones(size, np.float32) for _ in range(3))
    scale = np.float32(2)

    def call() -> None:
        threads.use(count)
        triad(a, b, c, scale, BLOCK)

    return call, 3 * a.nbytes


def _fastest(call: Callable[[], None], seconds: float) -> float:
    """Seconds of the fastest call: a ceiling is what was reached once, whatever else ran meanwhile.

    seconds: how long to go on calling, twice at least; the longer, the likelier that others pause for once.
    """
    call()
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
