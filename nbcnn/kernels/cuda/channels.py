"""How threads share out rows of channels: a thread takes four of one row, so that finding the row is worked out once
for four elements and four loads are on their way at a time, and the threads beside it take their neighbours.
"""

from __future__ import annotations

import math

from nbcnn.kernels.cuda._cuda import device
from nbcnn.kernels.cuda.memory import aligned, get, load, store

__all__ = ["PER_THREAD", "columns", "fours", "in_fours", "lanes_of", "larger", "read_fours", "write_fours"]

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
def in_fours(x, length):
    """Whether rows of this length are made of runs of four elements that can be accessed at once."""
    return length % PER_THREAD == 0 and aligned(x, 0)


@device
def fours(lane, lanes, length, wide):
    """The four columns of a thread: neighbours, if `wide`, else as `columns`."""
    if wide:
        first = lane * PER_THREAD
        return first, first + 1, first + 2, first + 3
    return columns(lane, lanes, length)


@device
def read_fours(x, at, p, q, r, s, wide):
    """x[at + p], ..., of an array that this launch does not write; p, ...: as `fours` gave them."""
    if wide:
        return load(x, at + p)
    return get(x, at + p), get(x, at + q), get(x, at + r), get(x, at + s)


@device
def write_fours(y, at, p, q, r, s, a, b, c, d, wide):
    """y[at + p], ... = a, ..."""
    if wide:
        store(y, at + p, a, b, c, d)
    else:
        y[at + p], y[at + q], y[at + r], y[at + s] = a, b, c, d


@device
def larger(best, value):
    """The larger one, or NaN."""
    return value if value > best or math.isnan(value) else best
