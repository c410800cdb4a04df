"""Dropout whose random numbers are a function of the element's place, so that they depend on no order of work.

The generator is Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", 2011):
four 32-bit words from a key (the seed and the node) and a counter (the place and the step).
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = ["dropout"]

BLOCK = 4096
"""Elements in a task; a multiple of four."""

LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@serial
def philox(c0, c1, c2, c3, k0, k1):
    """Four random words; counter and key are 32-bit numbers in uint64."""
    for _ in range(10):
        first, second = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (second >> HALF) ^ c1 ^ k0, second & LOW, (first >> HALF) ^ c3 ^ k1, first & LOW
        k0, k1 = (k0 + WEYL[0]) & LOW, (k1 + WEYL[1]) & LOW
    return c0, c1, c2, c3


@serial
def _drop_block(block, x, y, mask, state, stream, threshold, scale):
    seed, step = np.uint64(state[0]), np.uint64(state[1])
    k0, k1 = seed & LOW, (seed >> HALF) ^ np.uint64(stream)
    s0, s1 = step & LOW, step >> HALF
    least, none = np.uint64(threshold), scale - scale
    start = block * BLOCK
    for at in range(start, min(start + BLOCK, x.size), 4):
        place = np.uint64(at // 4)
        words = philox(place & LOW, place >> HALF, s0, s1, k0, k1)
        for i in range(min(4, x.size - at)):
            kept = words[i] >= least
            y[at + i] = x[at + i] * (scale if kept else none)
            if mask.size > 0:
                mask[at + i] = kept


@kernel
def dropout(x, y, mask, state, stream, threshold, scale):
    """y = x * mask * scale, where an element is kept if its random word is at least `threshold` (ratio * 2^32).

    state (2), int64: seed and step. stream: a 32-bit number of the node. mask: written where it is not empty. y may be
    x. The same call on dy is the gradient.
    """
    for index in prange((x.size + BLOCK - 1) // BLOCK):
        block = np.int64(index)
        _drop_block(block, x, y, mask, state, stream, threshold, scale)
