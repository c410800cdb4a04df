"""The tile in which kernels sum over rows of channels: fixed, so that sums do not depend on the number of threads."""

from __future__ import annotations

__all__ = ["LANES", "TILE_CHANNELS", "TILE_ROWS", "pitch_of", "whole_rows"]

TILE_ROWS = 256
TILE_CHANNELS = 256
"""Such a tile, 256 KiB in float32, stays in the L2 cache while it is read twice; narrower ones stream badly."""
LANES = 16
"""The most elements of any type in one register of any width."""


def pitch_of(channels: int) -> int:
    """Elements of a row of partial sums: whole registers, so that each step finds what the last one stored."""
    return (channels + LANES - 1) // LANES * LANES


def whole_rows(channels: int) -> tuple[int, int]:
    """The largest tile (rows, channels) where nothing is read twice: memory streams best along whole rows."""
    return (256, 256) if channels <= 256 else (64, 1024)
