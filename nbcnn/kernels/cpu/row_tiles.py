"""The tile in which kernels sum over rows of channels: fixed, so that sums do not depend on the number of threads."""

from __future__ import annotations

__all__ = ["TILE_CHANNELS", "TILE_ROWS"]

TILE_ROWS = 256
TILE_CHANNELS = 64
"""Such a tile, 64 KiB in float32, stays in the L2 cache while it is read twice."""
