"""The shape of a register tile, and the packed weight layout that goes with it.

A tile is `ROWS` pixels by `PANEL_VECS` registers of output channels: 28 accumulators of AVX-512's 32 registers, 12 of
AVX2's 16. 14 divides or nearly divides the row counts of common networks (14, 28, 56, 112, 224). Weight gradients use
`GRAD_ROWS` input channels instead: 13 * 5 = 65 is the closest cover of 64 (and 128, 256, 512) that fits the registers.

Packed weights are (group, panel, tap, input channel, lane): a panel is as many output channels as a tile row holds,
the last one filled up with zeros.
"""

from __future__ import annotations

from nbcnn.kernels.cpu.width import REGISTERS, WIDTH_BYTES

__all__ = [
    "CHANNEL_BLOCK",
    "DEPTH_BLOCK",
    "FAR_LINES",
    "GRAD_ROWS",
    "HALF_ROWS",
    "LINES",
    "NEAR_LINES",
    "PACKED_PANELS",
    "PANEL_VECS",
    "ROWS",
    "SHORT_ROWS",
    "lanes",
    "packed_size",
    "panel_vecs",
    "panel_width",
]

PANEL_VECS = 2
ROWS = 14 if REGISTERS == 32 else 6
SHORT_ROWS = 8 if REGISTERS == 32 else 4
"""Rows of the tile that ends a product whose rows are few and no multiple of ROWS."""
HALF_ROWS = ROWS // 2
"""Rows of the tile of half registers that ends a panel of which little is there: three of them in a row."""
LINES = 4 if REGISTERS == 32 else 2
"""Lines of a tile of a depthwise 3x3 convolution: with stride 1, nine weights and three sums a line just fit the
registers.
"""
NEAR_LINES = LINES + 2
"""Lines of x that such a tile of stride 1 reads ..."""
FAR_LINES = 2 * LINES + 1
"""... and one of stride 2."""
CHANNEL_BLOCK = 512
"""Input channels that a product takes at once."""
DEPTH_BLOCK = 1024
"""Depth of a product between two visits to y: so many rows of a panel (128 KiB in float32) stay in the L2 cache."""
GRAD_ROWS = 13 if REGISTERS == 32 else 6
PACKED_PANELS = 8
"""Panels of the output's gradient that the gradient by the weights copies at once: a long enough run for the memory
to stream.
"""


def lanes(itemsize: int) -> int:
    """Elements of this many bytes in one register."""
    return WIDTH_BYTES // itemsize


def panel_vecs(channels: int, itemsize: int) -> int:
    """Registers in a panel of a layer with so many output channels (of one group)."""
    return 1 if channels <= lanes(itemsize) else PANEL_VECS


def panel_width(channels: int, itemsize: int) -> int:
    """Output channels in one panel."""
    return panel_vecs(channels, itemsize) * lanes(itemsize)


def packed_size(groups: int, channels: int, taps: int, run: int, itemsize: int) -> int:
    """Elements of packed weights: `channels` output and `run` input channels a group."""
    width = panel_width(channels, itemsize)
    return groups * -(-channels // width) * width * taps * run
