"""Dropout whose random numbers are a function of the element's place: the same as on the CPU, bit by bit.

The generator is Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", 2011):
four 32-bit words from a key (the seed and the node) and a counter (the place and the step), one for each of the four
elements that a thread takes at once.
"""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda._cuda import cuda, device, kernel, spread
from nbcnn.kernels.cuda.memory import WIDTH, read, write

__all__ = ["dropout"]

LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
ROUNDS = 10


@device
def _philox(c0, c1, c2, c3, k0, k1):
    """Four random words; counter and key are 32-bit numbers in uint64."""
    for _ in range(ROUNDS):
        first, second = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (second >> HALF) ^ c1 ^ k0, second & LOW, (first >> HALF) ^ c3 ^ k1, first & LOW
        k0, k1 = (k0 + WEYL[0]) & LOW, (k1 + WEYL[1]) & LOW
    return c0, c1, c2, c3


@kernel
def _dropout(x, y, mask, state, stream, threshold, scale):
    v = cuda.local.array(WIDTH, x.dtype)
    words = cuda.local.array(WIDTH, np.uint64)
    kept = cuda.local.array(WIDTH, mask.dtype)
    seed, step = np.uint64(state[0]), np.uint64(state[1])
    k0, k1 = seed & LOW, (seed >> HALF) ^ np.uint64(stream)
    least, none = np.uint64(threshold), scale - scale
    at = cuda.grid(1) * WIDTH
    while at < x.size:
        read(x, at, x.size - at, v)
        place = np.uint64(at // WIDTH)
        words[0], words[1], words[2], words[3] = _philox(place & LOW, place >> HALF, step & LOW, step >> HALF, k0, k1)
        for k in range(WIDTH):
            kept[k] = words[k] >= least
            v[k] = v[k] * (scale if words[k] >= least else none)
        write(y, at, x.size - at, v)
        if mask.size > 0:
            write(mask, at, x.size - at, kept)
        at += cuda.gridsize(1) * WIDTH


def dropout(x, y, mask, state, stream, threshold, scale):
    """y = x * mask * scale, where an element is kept if its random word is at least `threshold` (ratio * 2^32).

    state (2), int64: seed and step. stream: a 32-bit number of the node. mask: written where it is not empty. y may be
    x. The same call on dy is the gradient.
    """
    spread(_dropout, -(-x.size // WIDTH), x, y, mask, state, stream, threshold, scale)
