"""Rows of a tile that go to one place, in their order: sums whose terms are known only when they are met.

A block takes rows TILE at a time and finds, for each, the next one with the same key. The first of a chain is then
worked out with all that follow, while chains with other keys are worked out beside it. So no two threads ever write one
element, and terms are added as one thread would add them, without float atomics, whose order nobody knows.
"""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import BLOCK, device

__all__ = ["TILE", "WIDTH", "link", "width_of"]

TILE = BLOCK
"""Rows of a tile, and threads of a block."""
WIDTH = 8
"""Columns that a block takes: 32 bytes, what memory moves at once, so that there are many blocks."""


def width_of(length: int) -> int:
    """Columns that a block takes of rows of this length, a power of two."""
    return min(WIDTH, 1 << max(length - 1, 0).bit_length())


@device
def link(keys, following, leads, row):
    """following[row] = the next row with the key of `row`, or -1. leads[row]: whether it is the first of them; a key
    below 0 belongs to no chain.
    """
    key, later, lead = keys[row], -1, keys[row] >= 0
    for other in range(TILE):
        if keys[other] == key:
            if other < row:
                lead = False
            elif other > row and later < 0:
                later = other
    following[row] = later
    leads[row] = lead
