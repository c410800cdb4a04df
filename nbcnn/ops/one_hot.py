"""OneHot: indices as vectors of which one element is on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.ops.axes import axis_of
from nbcnn.ops.base import Facts, Op, Shaped, register


@register("OneHot")
class OneHot(Op):
    """ONNX opsets 9, 11. inputs: indices, depth, values (off, on). Normalized: inputs indices, values; attributes axis,
    depth. Indices outside of [-depth, depth) leave everything off.
    """

    since = 9
    differentiable = False

    def normalize(self, node: Node, facts: Facts) -> None:
        depth = facts.constant(node, 1, "the depth")
        if depth is None or depth.size != 1 or int(depth.item()) < 0:
            raise ModelError(f"{node.label}: the depth is one number that is not negative, not {depth}")
        if facts.value(node, 2).dims != (2,):
            raise ModelError(f"{node.label}: values are two numbers, off and on, not {facts.value(node, 2).dims}")
        rank = len(facts.value(node, 0).dims) + 1
        node.attrs = {"axis": axis_of(node, int(node.attrs.get("axis", -1)), rank), "depth": int(depth.item())}
        if node.inputs[2] in facts.declared:
            facts.declared[node.outputs[0]] = facts.declared[node.inputs[2]]
        node.inputs = [node.inputs[0], node.inputs[2]]

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        indices, values = inputs
        assert indices is not None and values is not None and values.dtype is not None
        shape = list(indices.dims)
        shape.insert(node.attrs["axis"], node.attrs["depth"])
        return [(values.dtype, tuple(shape))]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        indices, values = arrays
        if indices is None or values is None:
            return None
        depth, axis = node.attrs["depth"], node.attrs["axis"]
        places = np.where(indices < 0, indices + depth, indices)
        steps = np.arange(depth).reshape(-1, *(1,) * (indices.ndim - axis))
        return [np.where(np.expand_dims(places, axis) == steps, values[1], values[0])]
