"""The shape of blocks and register tiles where a lane is a picture (batch_lanes.py).

A tile is a few output channels by the PICTURE_VECS registers that one block of pictures fills.
"""

from __future__ import annotations

from nbcnn.kernels.cpu.tiling import lanes
from nbcnn.kernels.cpu.width import REGISTERS

__all__ = [
    "FEW_COLUMNS",
    "FEW_ROWS",
    "GRAD_ROWS",
    "MORE_COLUMNS",
    "MORE_ROWS",
    "PICTURE_VECS",
    "best_fit",
    "pictures",
]

PICTURE_VECS = 2
FEW_ROWS = 6 if REGISTERS == 32 else 4
MORE_ROWS = 8 if REGISTERS == 32 else 6
"""Output channels of a tile: the one of the two that wastes less is taken."""
GRAD_ROWS = 5 if REGISTERS == 32 else 3
FEW_COLUMNS = 3 if REGISTERS == 32 else 2
MORE_COLUMNS = 4 if REGISTERS == 32 else 3
"""A tile of the gradient by the weights: neighbours in a line of the kernel by output channels."""


def pictures(itemsize: int) -> int:
    """Pictures in a block."""
    return PICTURE_VECS * lanes(itemsize)


def best_fit(channels: int, few: int, more: int) -> int:
    """Which of two tile sizes wastes less on so many channels."""
    return few if -(-channels // few) * few < -(-channels // more) * more else more
