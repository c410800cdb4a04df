"""How Conv and its gradients call the Winograd kernels, and the filters' factors as a node of the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nbcnn.binder import Binder, Buffer
from nbcnn.graph import Node, Value
from nbcnn.kernels.cpu.tiling import PANEL_VECS, ROWS, SHORT_ROWS, lanes, panel_vecs
from nbcnn.ops.base import register
from nbcnn.ops.gather import Epilogue, bounds
from nbcnn.ops.packing import Conversion, Packing

__all__ = ["POINTS", "Factors", "Tiles", "is_eligible"]

POINTS = {"winograd2": 4, "winograd4": 6}
"""Algorithm -> points n of F(n - 2, 3): 2x2 or 4x4 results a tile."""
FILTER = 3
CHUNK = 56
"""Tiles in a task of products: their products with one panel of filters (250 KiB in float32) stay in the L2 cache."""
FACTOR_BYTES = 4 << 20
"""Bytes of input factors from which on a block of tiles is not made larger, so that they stay in the caches."""


@dataclass(frozen=True)
class Factors:
    """Filters as factors, instead of in panels. base: the panels they are made from. flip: turned round."""

    base: Packing
    points: int
    flip: bool

    @property
    def size(self) -> int:
        return self.base.size // self.base.taps * self.points**2


@register("WinogradWeights")
class WinogradWeights(Conversion):
    """panels of 3x3 filters -> their factors; `packing` is Factors."""

    def bind(self, node: Node, b: Binder) -> None:
        factors: Factors = node.attrs["packing"]
        depth = factors.base.depth
        panels = factors.base.size // (factors.base.taps * depth * PANEL_VECS * lanes(b.dtype.itemsize))
        source, target = b.buffer(node.inputs[0]), b.buffer(node.outputs[0])
        b.call("winograd_weights", (0,) * factors.points, source, target, panels, depth, int(factors.flip))


def is_eligible(node: Node, values: Mapping[str, Value]) -> bool:
    """Whether the Winograd kernels can compute this node, a Conv or one of its gradients, not yet packed."""
    w = values[node.outputs[0] if node.op == "ConvWeightGrad" else node.inputs[1]]
    plain = all(s == 1 for s in (*node.attrs["strides"], *node.attrs["dilations"])) and node.attrs["group"] == 1
    if w.dtype is None or w.dims[2:] != (FILTER, FILTER) or not plain:
        return False
    channels = w.dims[1] if node.op in ("ConvInputGrad", "ConvTranspose") else w.dims[0]
    return panel_vecs(channels, w.dtype.itemsize) == PANEL_VECS


def _apart(elements: int) -> int:
    """At least so many elements, an odd number of 64-byte lines in float32: planes then do not share cache sets."""
    return 16 * (-(-elements // 16) | 1)


@dataclass(frozen=True)
class Tiles:
    """A convolution cut into tiles. source, target: (height, width, elements from pixel to pixel, channels). pads:
    rows above, columns left of the source.
    """

    points: int
    images: int
    source: tuple[int, int, int, int]
    target: tuple[int, int, int, int]
    pads: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles of a picture, down and across."""
        step = self.points + 1 - FILTER
        return -(-self.target[0] // step), -(-self.target[1] // step)

    @property
    def count(self) -> int:
        return self.images * self.grid[0] * self.grid[1]

    def _blocks(self, bytes_a_tile: int) -> tuple[int, int, int]:
        """(tiles in a block, tiles in a task of products, tiles in a task of transforms)."""
        block = max(2 * CHUNK, FACTOR_BYTES // bytes_a_tile // (2 * CHUNK) * (2 * CHUNK))
        block = -(-self.count // -(-self.count // block))
        return block, -(-block // max(1, round(block / CHUNK))), max(1, min(8, block // 16))

    def bind(self, b: Binder, node: Node, x: Buffer, u: Buffer, y: Buffer, epilogue: Epilogue) -> None:
        """Emit the forward call; it also serves the gradient by the input."""
        n, itemsize = self.points, b.dtype.itemsize
        pitch = self.source[3] + lanes(itemsize)
        block, chunk, few = self._blocks(n * n * pitch * itemsize)
        plane = _apart((block + ROWS) * pitch)
        slot = n * n * (chunk + ROWS) * PANEL_VECS * lanes(itemsize) + (n - 2) ** 2 * lanes(itemsize)
        b.call(
            "winograd_conv",
            (0,) * n,
            *(x, u, b.optional(epilogue.bias), b.optional(epilogue.residual), y, b.zeros(self.source[3])),
            b.scratch(n * n * plane),
            b.scratch(64 * b.threads, np.int64),
            b.scratch(slot * b.threads),
            *(self.images, self.source, self.target, self.pads, self.grid),
            (block, chunk, few, pitch, plane, slot),
            *bounds(node, b.dtype),
        )

    def bind_weight_grad(self, b: Binder, x: Buffer, dy: Buffer, dw: Buffer) -> None:
        """Emit the gradient by the weights, in panels; self is the forward convolution."""
        n, itemsize = self.points, b.dtype.itemsize
        group, width = max(lanes(itemsize), SHORT_ROWS), PANEL_VECS * lanes(itemsize)
        groups, panels = -(-self.source[3] // group), -(-self.target[3] // width)
        block, _, few = self._blocks(n * n * (groups * group + panels * width) * itemsize)
        plane_v, plane_d = _apart(block * group), _apart(block * width)
        b.call(
            "winograd_weight_grad",
            (0,) * n,
            *(x, dy, dw, b.zeros(max(self.source[3], self.target[3]))),
            b.scratch(n * n * groups * plane_v),
            b.scratch(n * n * panels * plane_d),
            b.scratch(64 * b.threads, np.int64),
            b.scratch((n * n * SHORT_ROWS * width + FILTER**2 * lanes(itemsize)) * b.threads),
            *(self.images, self.source, self.target, self.pads, self.grid),
            (block, few, plane_v, plane_d),
        )
