"""Operands that broadcast, walked with strides along six axes in the order in which the result lies in memory.

A result is worked on in lines along its last axis, four elements at a time: where a line begins in each operand takes
divisions, which are made once for the four, and only for axes that are longer than 1.
"""

from __future__ import annotations

from math import prod

from nbcnn.kernels.cuda._cuda import device
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.memory import WIDTH

__all__ = ["LAST", "count_pieces", "line_of", "starts"]

LAST = 5
"""The axis of `shape` along which a line goes."""


def count_pieces(shape: tuple[int, ...]) -> int:
    """How many times up to four elements a result of this shape consists of."""
    return prod(shape[:LAST]) * -(-shape[LAST] // WIDTH)


@device
def line_of(piece, shape):
    """The line that a piece is of, and its first element's place along it."""
    length = (shape[LAST] + WIDTH - 1) // WIDTH
    line = divide(piece, length)
    return line, (piece - line * length) * WIDTH


@device
def starts(line, shape, first, second, third):
    """Where a line begins in three operands with these strides."""
    one = two = three = 0
    for axis in range(LAST - 1, -1, -1):
        if shape[axis] > 1:
            index = remainder(line, shape[axis])
            line = divide(line, shape[axis])
            one += index * first[axis]
            two += index * second[axis]
            three += index * third[axis]
    return one, two, three
