"""Operators on the bits of integers: BitShift, BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot; and BitCast.

NumPy does them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value, is_float
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.element_types import element_type, is_text

RULES = {
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
    "BitwiseNot": np.bitwise_not,
}


@register("BitShift", *RULES)
class Bits(Op):
    """ONNX: BitShift 11, 28; the others 18. Normalized: attribute left (BitShift)."""

    since = 11
    differentiable = False

    def normalize(self, node: Node, facts: Facts) -> None:
        types = [facts.value(node, i).dtype for i in range(len(node.inputs))]
        if len(set(types)) > 1 or types[0] is None or types[0].kind not in "iu":
            raise ModelError(f"{node.label}: takes integers of one type, not {' and '.join(map(str, types))}")
        if node.op == "BitShift":
            direction = node.attrs.get("direction")
            if direction not in ("LEFT", "RIGHT"):
                raise ModelError(f"{node.label}: direction {direction!r} is neither 'LEFT' nor 'RIGHT'")
            node.attrs = {"left": direction == "LEFT"}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        values = [x for x in inputs if x is not None]
        assert values[0].dtype is not None
        try:
            return [(values[0].dtype, np.broadcast_shapes(*(x.dims for x in values)))]
        except ValueError:
            shapes = " and ".join(str(x.dims) for x in values)
            raise ModelError(f"{node.label}: shapes {shapes} do not broadcast to each other") from None

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        known = [a for a in arrays if a is not None]
        if len(known) < len(arrays):
            return None
        if node.op == "BitShift":
            return [(np.left_shift if node.attrs["left"] else np.right_shift)(*known)]
        return [RULES[node.op](*known)]


@register("BitCast")
class BitCast(Op):
    """ONNX opset 26: the same bits as another type of the same width."""

    since = 26
    differentiable = False

    def normalize(self, node: Node, facts: Facts) -> None:
        source, to = facts.dtype(node, 0), element_type(node, int(node.attrs.get("to", 0)))
        if is_text(source) or is_text(to) or _width(source) != _width(to):
            raise ModelError(f"{node.label}: {source} and {to} are not of the same width")
        node.attrs = {"from": source, "to": to}
        if is_float(to):
            facts.declared[node.outputs[0]] = to

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        assert inputs[0] is not None
        return [(node.attrs["to"], inputs[0].dims)]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        if arrays[0] is None:
            return None
        x = np.ascontiguousarray(arrays[0].astype(node.attrs["from"])).reshape(arrays[0].shape)
        return [x.view(node.attrs["to"])]


def _width(dtype: np.dtype) -> int:
    """Bits of an element."""
    small = {"int4": 4, "uint4": 4, "float4_e2m1fn": 4, "int2": 2, "uint2": 2, "float6_e2m3fn": 6, "float6_e3m2fn": 6}
    return small.get(dtype.name, 8 * dtype.itemsize)
