"""Weights in the order of the matrix kernels, as nodes of the graph.

`PackWeights` and `UnpackWeights` convert between ONNX order and panels (nbcnn/kernels/cpu/tiling.py);
`TransposeWeights` makes the panels that a gradient by the input needs from those of the forward product. Their one
attribute is a `Packing`. All of them rest on weights alone, so they run when a weight has changed and at no other time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from nbcnn import kernels
from nbcnn.binder import Binder
from nbcnn.graph import Node, Value
from nbcnn.kernels.cpu.tiling import packed_size, panel_width
from nbcnn.memory import aligned_array
from nbcnn.ops.base import Op, Shaped, register
from nbcnn.parameter import Storage

__all__ = ["Conversion", "Packing"]


@dataclass(frozen=True)
class Packing:
    """Where each element of a weight goes.

    groups, channels: output channels a group. taps: positions of the kernel that are gathered apart. inner:
    neighbouring positions that are read as one run (1 but for pictures of few channels). depth: input channels a
    group. transposed: output and input channels swapped, for the gradient by the input.
    order: strides in the ONNX array of (group, output channel, tap, inner, depth). itemsize: of the type that is
    computed in, which decides how wide panels are. kept: a type of 16 bits that the panels hold, and the kernels of the
    device multiply, in an order that suits them.
    """

    groups: int
    channels: int
    taps: int
    inner: int
    depth: int
    order: tuple[int, int, int, int, int]
    itemsize: int
    kept: np.dtype | None = None

    @property
    def run(self) -> int:
        return self.inner * self.depth

    @property
    def size(self) -> int:
        return packed_size(self.groups, self.channels, self.taps, self.run, self.itemsize)

    @property
    def dims(self) -> tuple[int, int, int, int, int]:
        return (self.groups, self.channels, self.taps, self.inner, self.depth)

    def transposed(self) -> Packing:
        """The packing of the same weight with output and input channels swapped (its runs are single taps)."""
        assert self.inner == 1
        group, channel, tap, inner, depth = self.order
        return Packing(
            self.groups, self.depth, self.taps, 1, self.channels, (group, depth, tap, inner, channel), self.itemsize
        )

    def narrowed(self, kept: np.dtype) -> Packing:
        """What packs panels of this packing into panels of 16 bits: each panel as a group of its own."""
        width = panel_width(self.channels, self.itemsize)
        groups = self.groups * -(-self.channels // width)
        order = (self.taps * self.run * width, 1, self.run * width, self.depth * width, width)
        return Packing(groups, width, self.taps, self.inner, self.depth, order, self.itemsize, kept)

    def storage(self) -> Storage:
        """This order as a parameter's own."""
        return Storage((self,), self.size, self._pack, self._unpack)

    def _pack(self, array: np.ndarray) -> np.ndarray:
        data = aligned_array(self.size, array.dtype)
        kernels.load("cpu", "pack_weights")(np.ascontiguousarray(array).reshape(-1), data, self.dims, self.order)
        return data

    def _unpack(self, data: np.ndarray) -> np.ndarray:
        array = aligned_array(self.groups * self.channels * self.taps * self.run, data.dtype)
        kernels.load("cpu", "unpack_weights")(data, array, self.dims, self.order)
        return array


class Conversion(Op):
    """An operator that puts weights into another order."""

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        raise AssertionError(f"{node.op} is made after shapes are known")


@register("PackWeights")
class PackWeights(Conversion):
    """weight in ONNX order -> panels."""

    def bind(self, node: Node, b: Binder) -> None:
        packing: Packing = node.attrs["packing"]
        b.call("pack_weights", b.buffer(node.inputs[0]), b.buffer(node.outputs[0]), packing.dims, packing.order)


@register("UnpackWeights")
class UnpackWeights(Conversion):
    """panels (a weight's, or its gradient's) -> ONNX order."""

    def bind(self, node: Node, b: Binder) -> None:
        packing: Packing = node.attrs["packing"]
        b.call("unpack_weights", b.buffer(node.inputs[0]), b.buffer(node.outputs[0]), packing.dims, packing.order)


@register("TransposeWeights")
class TransposeWeights(Conversion):
    """panels of the forward product -> panels of the gradient by the input; `packing` is the forward one."""

    def bind(self, node: Node, b: Binder) -> None:
        packing: Packing = node.attrs["packing"]
        b.call("transpose_weights", b.buffer(node.inputs[0]), b.buffer(node.outputs[0]), packing.dims)


def dense(groups: int, channels: int, depth: int, kernel: Sequence[int], itemsize: int) -> Packing:
    """ONNX Conv's weights (groups * channels, depth, kernel...)."""
    taps = prod(kernel)
    return Packing(groups, channels, taps, 1, depth, (channels * depth * taps, depth * taps, 1, 0, taps), itemsize)


def depthwise(channels: int, kernel: Sequence[int], itemsize: int) -> Packing:
    """ONNX Conv's weights (channels, 1, kernel...) of a convolution with as many groups as channels."""
    taps = prod(kernel)
    return Packing(1, channels, taps, 1, 1, (0, taps, 1, 0, 0), itemsize)


def rows(channels: int, depth: int, kernel: Sequence[int], itemsize: int) -> Packing:
    """As `dense` for one group, with the last kernel dimension read as one run: for pictures of few channels."""
    lines, inner = prod(kernel[:-1]), kernel[-1]
    taps = lines * inner
    return Packing(1, channels, lines, inner, depth, (0, depth * taps, inner, 1, taps), itemsize)


def matrix(channels: int, depth: int, output_first: bool, itemsize: int) -> Packing:
    """A matrix (channels, depth) if output_first, else (depth, channels)."""
    order = (0, depth, 0, 0, 1) if output_first else (0, 1, 0, 0, channels)
    return Packing(1, channels, 1, 1, depth, order, itemsize)
