"""How a sum over rows is split among the blocks of a grid: it depends on the shape alone, as the sum's rounding does.

Operators ask here for the size of partial sums; nothing of CUDA is imported.
"""

from __future__ import annotations

__all__ = ["COLUMNS", "parts_of", "power_of_two", "rows_of_part"]

COLUMNS = 32
"""The most columns of one block: neighbouring threads of a warp read neighbouring elements."""
ELEMENTS = 2048
"""What a block sums at least, where there is so much."""
BLOCKS = 2048
"""Blocks that fill the largest GPU more than once; with more there would only be more partial sums."""


def power_of_two(number: int) -> int:
    """The least power of two that is not less."""
    return 1 << max(number - 1, 0).bit_length()


def rows_of_part(outer: int, rows: int, columns: int) -> int:
    """Rows that one block sums up, of an array (outer, rows, columns)."""
    most = max(1, BLOCKS // max(outer * -(-columns // COLUMNS), 1))
    least = ELEMENTS // min(power_of_two(columns), COLUMNS)
    return max(least, -(-rows // most), 1)


def parts_of(outer: int, rows: int, columns: int) -> int:
    """Into how many parts the rows are split."""
    return -(-rows // rows_of_part(outer, rows, columns))
