"""MaxUnpool (ONNX opsets 9, 11, 22): every maximum goes back to where it was, among zeros."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.geometry import transposed_window
from nbcnn.graph import Node, Value
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.elementwise import need_float
from nbcnn.ops.gather import triple

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward


@register("MaxUnpool")
class MaxUnpool(Op):
    """inputs: X (N, C, D1...), indices of its shape, output_shape or none -> Y (N, C, O1...).

    Indices count the elements of the output as MaxPool's attributes imply it; a larger output_shape adds zeros at the
    ends. Normalized: `size`, spatial, that indices are about; `shape`, of the output.
    """

    layout = "plain"
    since = 9

    def normalize(self, node: Node, facts: Facts) -> None:
        x, indices, attrs = facts.value(node, 0), facts.value(node, 1), node.attrs
        need_float(node, x)
        if not 3 <= len(x.dims) <= 5:
            raise UnsupportedError(f"{node.label}: 1 to 3 spatial dimensions are supported, the input has {x.dims}")
        if indices.dims != x.dims or "kernel_shape" not in attrs:
            raise ModelError(f"{node.label}: indices {indices.dims} do not fit {x.dims}, or there is no kernel_shape")
        size = transposed_window(x.dims[2:], attrs["kernel_shape"], attrs.get("strides"), attrs.get("pads")).size
        asked = facts.ints(node, 2, "output_shape", "the output's shape")
        shape = (*x.dims[:2], *size) if asked is None else tuple(asked)
        fits = len(shape) == len(x.dims) and shape[:2] == x.dims[:2]
        if not fits or any(n < m for n, m in zip(shape[2:], size, strict=True)):
            raise ModelError(f"{node.label}: output_shape {shape} is smaller than {(*x.dims[:2], *size)}")
        node.inputs = node.inputs[:2]
        node.attrs = {"size": size, "shape": shape}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x and x.dtype
        return [(x.dtype, node.attrs["shape"])]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        return [back.add("MaxUnpoolGrad", [dy, node.inputs[1]], like=node.inputs[0], attrs=node.attrs), None]

    def bind(self, node: Node, b: Binder) -> None:
        count = prod(node.attrs["shape"][:2]) * prod(node.attrs["size"])

        def check(indices: np.ndarray) -> None:
            if indices.size and not 0 <= indices.min() <= indices.max() < count:
                raise ModelError(
                    f"{node.label}: indices from {indices.min()} to {indices.max()} do not lie in 0..{count - 1}"
                )

        b.check(check, b.buffer(node.inputs[1]))
        arrays = (b.buffer(name) for name in (*node.inputs, node.outputs[0]))
        b.call("unpool", *arrays, *_sizes(node))


def _sizes(node: Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return triple(node.attrs["size"], 1), triple(node.attrs["shape"][2:], 1)


@register("MaxUnpoolGrad")
class MaxUnpoolGrad(Op):
    """inputs: dY, indices -> dX. Attributes are those of the forward node, which has looked at the indices."""

    def bind(self, node: Node, b: Binder) -> None:
        arrays = (b.buffer(name) for name in (*node.inputs, node.outputs[0]))
        b.call("unpool_grad", *arrays, *_sizes(node))
