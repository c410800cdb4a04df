"""Numbers that a person can read."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["amount", "mebibytes", "number", "shape_text"]


def number(value: float) -> str:
    """About three significant digits, never an exponent: 1,235, 12.3, 1.23, 0.00123."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    decimals = 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{min(max(decimals, 0), 6)}f}"


def amount(count: int) -> str:
    """12345 as "12,345"."""
    return f"{count:,}"


def mebibytes(count: int) -> str:
    """Bytes as "1.5 MiB", fewer as "1.5 KiB" or "40 B"."""
    for power, unit in ((20, "MiB"), (10, "KiB")):
        if count >= 2**power:
            return f"{count / 2**power:,.1f} {unit}"
    return f"{count} B"


def shape_text(shape: Sequence[int]) -> str:
    """(1, 3, 224, 224) as "1x3x224x224"."""
    return "x".join(map(str, shape)) or "scalar"
