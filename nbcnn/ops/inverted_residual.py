"""InvertedResidual: a block of MobileNet, three convolutions in one kernel; the pass `blocks` puts it together.

x -> 1x1 -> depthwise 3x3 -> 1x1 -> + residual -> y, each with a bias and a clamp of its own. The first 1x1 convolution
may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nbcnn.binder import Binder
from nbcnn.graph import Node, Value
from nbcnn.kernels.cpu.tiling import FAR_LINES, LINES, NEAR_LINES, ROWS, lanes, panel_width
from nbcnn.ops.base import Op, register
from nbcnn.ops.gather import PRODUCT_TILES, product_parts
from nbcnn.ops.packing import Packing, dense, depthwise

__all__ = ["EXPAND", "PROJECT", "TAPS", "Block"]

EXPAND, TAPS, PROJECT = 2, 4, 6
"""Where the weights lie among the inputs (x, residual, weights and bias of each convolution)."""
BANDS = 4
"""Bands for each thread at the most: at the edges of a band, lines are expanded twice."""


@dataclass(frozen=True)
class Block:
    """The shapes of a block. source: lines, columns, channels of x. target: lines, columns, channels of y. hidden:
    channels between. stride: of the depthwise convolution. expands: whether there is a first convolution.
    """

    images: int
    source: tuple[int, int, int]
    target: tuple[int, int, int]
    hidden: int
    stride: int
    expands: bool
    itemsize: int

    @property
    def hidden_bytes(self) -> int:
        """What a picture takes between the first two convolutions."""
        return self.source[0] * self.source[1] * self.hidden * self.itemsize

    @property
    def ring(self) -> int:
        """Elements of expanded lines that are kept."""
        reads = NEAR_LINES if self.stride == 1 else FAR_LINES
        return reads * self.source[1] * self.hidden if self.expands else 0

    @property
    def middle(self) -> int:
        """Elements of lines between the last two convolutions that are made at once."""
        return LINES * self.target[1] * self.hidden

    @property
    def multiply_adds(self) -> int:
        pixels = self.images * self.target[0] * self.target[1]
        expanding = self.images * self.source[0] * self.source[1] * self.source[2] if self.expands else 0
        return self.hidden * (expanding + pixels * (9 + self.target[2]))

    def lines_of_bands(self, threads: int) -> int:
        """Lines of y in a band, so that threads get equal shares."""
        height = self.target[0]
        most = max(1, min(BANDS * threads, height // (2 * LINES)))
        bands = next((n for n in range(1, most + 1) if self.images * n % threads == 0), most)
        return -(-height // bands)


@register("InvertedResidual")
class InvertedResidual(Op):
    """inputs: X, residual or none, and weights and bias (or none) of each convolution -> Y; the attribute `block` says
    the rest.
    """

    layout = "last"

    def packings(self, node: Node, values: Mapping[str, Value]) -> dict[int, Packing]:
        """For the index of each weight, how the kernel wants it."""
        block: Block = node.attrs["block"]
        found = {
            TAPS: depthwise(block.hidden, (3, 3), block.itemsize),
            PROJECT: dense(1, block.target[2], block.hidden, (1, 1), block.itemsize),
        }
        if block.expands:
            found[EXPAND] = dense(1, block.hidden, block.source[2], (1, 1), block.itemsize)
        return found

    def bind(self, node: Node, b: Binder) -> None:
        block: Block = node.attrs["block"]
        packings: dict[int, Packing] = node.attrs["packings"]
        in_w, hidden, itemsize = block.source[1], block.hidden, block.itemsize
        expanding = _schedule(packings[EXPAND], block.source[0] * in_w) if block.expands else (0,) * 6
        projecting = _schedule(packings[PROJECT], LINES * block.target[1])
        size = _whole_lines(block.ring + block.middle + max(expanding[4], projecting[4]))
        places = np.arange(9) * panel_width(hidden, itemsize)
        b.call(
            "inverted_residual",
            b.buffer(node.inputs[0]),
            *(b.optional(node.input(slot)) for slot in range(EXPAND, PROJECT + 2)),
            b.optional(node.input(1)),
            b.buffer(node.outputs[0]),
            b.zeros(in_w * hidden + lanes(itemsize)),
            b.constant(places.astype(np.int64)),
            b.constant(np.array(node.attrs["limits"], b.dtype)),
            b.scratch(size * b.threads),
            b.scratch(2 * FAR_LINES * b.threads, np.int64),
            (*block.source, block.stride),
            (block.images, *block.target[:2], hidden, block.target[2]),
            tuple(node.attrs["pads"][:2]),
            expanding,
            projecting,
            (block.lines_of_bands(b.threads), size),
        )


def _schedule(packing: Packing, rows: int) -> tuple[int, int, int, int, int, int]:
    """The schedule of conv_pointwise for products of up to so many rows, all panels in a task."""
    block = ROWS * min(PRODUCT_TILES, -(-rows // ROWS))
    panels = -(-packing.channels // panel_width(packing.channels, packing.itemsize))
    return (block, panels, *product_parts(packing, block, rows), 1)


def _whole_lines(elements: int) -> int:
    """Rounded up, so that threads do not share a cache line."""
    return -(-elements // 64) * 64
