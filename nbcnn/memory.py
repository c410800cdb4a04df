"""Memory for arrays that kernels work on.

Large arrays have pages of their own, straight from the system, and go back to it when they are dropped. From the C
library's heap they would not: it keeps freed blocks below 32 MB for itself, and ResNet-50, whose weights are read,
folded and packed one after the other, kept 30 MB so, and 95 MB after it was dropped.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress

import numpy as np

__all__ = ["ALIGNMENT", "aligned_array", "aligned_bytes", "machine_bytes"]

ALIGNMENT = 64
"""A cache line, and the widest SIMD register."""

LARGE = 1 << 18
"""Bytes from which on an array has pages of its own."""

HUGE_PAGE = 1 << 21
"""Bytes of a large page (x86-64, and AArch64 with pages of 4 KiB), which is asked for as NumPy asks for its arrays."""


def aligned_bytes(size: int) -> np.ndarray:
    """Uninitialized bytes that start on a cache line."""
    if size < LARGE or not hasattr(mmap, "MAP_PRIVATE"):
        raw, alignment = np.empty(size + ALIGNMENT, np.uint8), ALIGNMENT
    else:
        alignment = HUGE_PAGE if size >= HUGE_PAGE else ALIGNMENT
        raw = np.frombuffer(_pages(size + alignment, size >= HUGE_PAGE), np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + size]


def aligned_array(size: int, dtype: np.dtype) -> np.ndarray:
    return aligned_bytes(size * dtype.itemsize).view(dtype)


def machine_bytes() -> int | None:
    """The memory of this machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _pages(size: int, huge: bool) -> mmap.mmap:
    """Pages that only this process has (a forked one gets copies); they count as memory once they are written to."""
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if huge and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system without large pages
            block.madvise(mmap.MADV_HUGEPAGE)
    return block
