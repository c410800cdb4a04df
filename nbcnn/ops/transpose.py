"""Transpose, DepthToSpace and SpaceToDepth: the same elements in another order. Any layout is read as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError, brief
from nbcnn.graph import Node, Value
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.strided import copy, strides

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward


@register("Transpose")
class Transpose(Op):
    """ONNX opsets 1, 13. perm: the axis of the input that each axis of the output is (default: reversed).

    NCHW to NHWC is free where the input lies channels last.
    """

    layout = "plain"
    activations = ()
    since = 1
    halves = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        rank = len(facts.value(node, 0).dims)
        perm = tuple(int(axis) for axis in node.attrs.get("perm", range(rank)[::-1]))
        if sorted(perm) != list(range(rank)):
            raise ModelError(f"{node.label}: perm {brief(perm)} is no order of the axes of {facts.value(node, 0).dims}")
        node.attrs = {"perm": perm}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x and x.dtype
        return [(x.dtype, tuple(x.dims[axis] for axis in node.attrs["perm"]))]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        return None if arrays[0] is None else [arrays[0].transpose(node.attrs["perm"])]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        perm = node.attrs["perm"]
        inverse = tuple(perm.index(axis) for axis in range(len(perm)))
        return [back.add("Transpose", [dy], like=node.inputs[0], attrs={"perm": inverse})]

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        x_strides = strides(x)
        axes = [
            (n, x_strides[axis], step) for n, axis, step in zip(y.dims, node.attrs["perm"], strides(y), strict=True)
        ]
        copy(b, x, y, axes)


class _Blocks(Op):
    """Channels exchanged with blocks of pixels.

    Normalized: blocksize, mode ("DCR": the place in a block is the outer part of a channel's number, "CRD": inner).
    """

    inverse = ""
    since = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        size = int(node.attrs["blocksize"])
        if len(x.dims) != 4 or size < 1:
            raise ModelError(f"{node.label}: needs four dimensions and a positive blocksize, not {x.dims} and {size}")
        node.attrs = {"blocksize": size, "mode": node.attrs.get("mode", "DCR")}

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        return [back.add(self.inverse, [dy], like=node.inputs[0], attrs=node.attrs)]

    @staticmethod
    def bind_blocks(b: Binder, deep: Value, wide: Value, size: int, mode: str, forward: bool) -> None:
        """Copy between deep (N, C * size^2, H, W) and wide (N, C, H * size, W * size); forward: from deep to wide."""
        n, channels = wide.dims[:2]
        rows, columns = deep.dims[2:]
        d, w = strides(deep), strides(wide)
        place, channel = (channels, 1) if mode == "DCR" else (1, size * size)
        axes = [
            (n, d[0], w[0]),
            (channels, channel * d[1], w[1]),
            (rows, d[2], size * w[2]),
            (size, size * place * d[1], w[2]),
            (columns, d[3], size * w[3]),
            (size, place * d[1], w[3]),
        ]
        if forward:
            copy(b, deep, wide, axes)
        else:
            copy(b, wide, deep, [(count, to, of) for count, of, to in axes])


@register("DepthToSpace")
class DepthToSpace(_Blocks):
    """ONNX opsets 1, 11 (mode), 13."""

    halves = 1

    inverse = "SpaceToDepth"

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x, size = inputs[0], node.attrs["blocksize"]
        assert x and x.dtype
        n, channels, rows, columns = x.dims
        if channels % size**2:
            raise ModelError(f"{node.label}: {channels} channels are no multiple of blocksize {size} squared")
        return [(x.dtype, (n, channels // size**2, rows * size, columns * size))]

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        self.bind_blocks(b, x, y, node.attrs["blocksize"], node.attrs["mode"], True)


@register("SpaceToDepth")
class SpaceToDepth(_Blocks):
    """ONNX opsets 1, 13: the inverse of DepthToSpace in mode DCR."""

    halves = 1

    inverse = "DepthToSpace"

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x, size = inputs[0], node.attrs["blocksize"]
        assert x and x.dtype
        n, channels, rows, columns = x.dims
        if rows % size or columns % size:
            raise ModelError(f"{node.label}: {rows}x{columns} pixels do not divide into blocks of {size}x{size}")
        return [(x.dtype, (n, channels * size**2, rows // size, columns // size))]

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        self.bind_blocks(b, y, x, node.attrs["blocksize"], node.attrs["mode"], False)
