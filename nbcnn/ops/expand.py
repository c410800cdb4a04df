"""Expand: a tensor repeated along axes to a larger shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.broadcast import aligned_strides
from nbcnn.ops.strided import copy, strides

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward


@register("Expand")
class Expand(Op):
    """ONNX opsets 8, 13. Normalized: shape, of x and the asked one broadcast to each other."""

    since = 8

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        asked = facts.ints(node, 1, "shape", "the shape")
        if asked is None:
            raise ModelError(f"{node.label}: no shape is given")
        try:
            shape = np.broadcast_shapes(x.dims, tuple(asked))
        except ValueError:
            raise ModelError(f"{node.label}: {x.dims} cannot be expanded to {asked}") from None
        if shape == x.dims:
            node.op = "Identity"
        node.inputs = node.inputs[:1]
        node.attrs = {"shape": shape}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x and x.dtype
        return [(x.dtype, node.attrs["shape"])]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        return None if arrays[0] is None else [np.broadcast_to(arrays[0], node.attrs["shape"])]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        return [back.add("ReduceSumTo", [dy], like=node.inputs[0])]

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        copy(b, x, y, list(zip(y.dims, aligned_strides(x, len(y.dims)), strides(y), strict=True)))
