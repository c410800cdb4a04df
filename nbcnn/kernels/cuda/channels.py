"""How threads share out rows of channels: a thread takes four of one row, so that finding the row is worked out once
for four elements and four loads are on their way at a time, and the threads beside it take their neighbours.
"""

from __future__ import annotations

import math

from nbcnn.kernels.cuda._cuda import device

__all__ = ["PER_THREAD", "columns", "lanes_of", "larger"]

PER_THREAD = 4


def lanes_of(length):
    """Threads of a row of `length` elements."""
    return -(-length // PER_THREAD)


@device
def columns(lane, lanes, length):
    """The four columns of a thread. The last one of the row again where there are too few: threads then write the same
    value to it twice, which is for nothing but does no harm.
    """
    last = length - 1
    return lane, min(lane + lanes, last), min(lane + 2 * lanes, last), min(lane + 3 * lanes, last)


@device
def larger(best, value):
    """The larger one, or NaN."""
    return value if value > best or math.isnan(value) else best
