"""Operators that give booleans, or take them: comparisons, And, Or, Xor, Not, IsNaN, IsInf.

Comparing floats is a kernel's work; for the rest, integers, booleans and strings, NumPy does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value, is_float
from nbcnn.kernels import opcodes
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.broadcast import aligned_strides, loops
from nbcnn.ops.element_types import need_numbers
from nbcnn.ops.legacy import align_operands
from nbcnn.ops.strided import has_kernel

BOOL = np.dtype(bool)

RULES: dict[str, Callable[..., np.ndarray]] = {
    "And": np.logical_and,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
}

CODES = {
    "Equal": opcodes.EQUAL,
    "Greater": opcodes.GREATER,
    "GreaterOrEqual": opcodes.GREATER_EQUAL,
    "Less": opcodes.GREATER,
    "LessOrEqual": opcodes.GREATER_EQUAL,
}
SWAPPED = ("Less", "LessOrEqual")


@register(*RULES)
class Logic(Op):
    """ONNX: And, Or, Xor 1, 7; Equal 1, 7, 11, 13, 19; Greater, Less 1, 7, 9, 13; GreaterOrEqual,
    LessOrEqual 12, 16.
    """

    since = 1
    differentiable = False

    def normalize(self, node: Node, facts: Facts) -> None:
        values = [facts.value(node, 0), facts.value(node, 1)]
        align_operands(node, facts)
        node.attrs = {}
        if values[0].dtype != values[1].dtype:
            kinds = " and ".join(str(x.dtype) for x in values)
            raise ModelError(f"{node.label}: operands of the types {kinds}; they must be of one")
        if node.op not in CODES:
            _need_booleans(node, *values)
        elif node.op != "Equal":
            need_numbers(node, values[0])

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        shapes = [x.dims for x in inputs if x is not None]
        try:
            return [(BOOL, np.broadcast_shapes(*shapes))]
        except ValueError:
            raise ModelError(f"{node.label}: shapes {shapes[0]} and {shapes[1]} do not broadcast") from None

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        a, b = arrays
        return None if a is None or b is None else [np.asarray(RULES[node.op](a, b), bool)]

    def bind(self, node: Node, b: Binder) -> None:
        y, values = b.value(node.outputs[0]), [b.value(name) for name in node.inputs]
        if node.op in SWAPPED:
            values.reverse()
        walked = loops(y, *(aligned_strides(x, len(y.dims)) for x in values))
        kinds = {x.dtype for x in values if x.dtype is not None}
        numbers = b.backend == "cuda" and node.op in CODES and all(has_kernel(kind, "cuda") for kind in kinds)
        if walked is None or (kinds != {b.dtype} and not numbers):
            super().bind(node, b)
            return
        shape, strides = walked
        if y.size:
            b.call("compare", CODES[node.op], *(b.buffer(x.name) for x in values), b.buffer(y.name), shape, *strides)


def _need_booleans(node: Node, *values: Value) -> None:
    for x in values:
        if x.dtype != BOOL:
            raise ModelError(f"{node.label}: takes booleans, but {x.name!r} holds {x.dtype}")


@register("Not")
class Not(Op):
    """ONNX opset 1."""

    since = 1
    differentiable = False

    def normalize(self, node: Node, facts: Facts) -> None:
        _need_booleans(node, facts.value(node, 0))

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        return None if arrays[0] is None else [np.logical_not(arrays[0])]


@register("IsNaN", "IsInf")
class NotFinite(Op):
    """ONNX: IsNaN 9, 13, 20; IsInf 10, 20. Normalized: attributes positive, negative (IsInf: which ones count)."""

    since = 9
    differentiable = False

    def normalize(self, node: Node, facts: Facts) -> None:
        at = node.attrs
        node.attrs = {"positive": bool(at.get("detect_positive", 1)), "negative": bool(at.get("detect_negative", 1))}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        assert inputs[0] is not None
        return [(BOOL, inputs[0].dims)]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x = arrays[0]
        if x is None:
            return None
        if not is_float(x.dtype):
            x = x.astype(np.float32)  # a float of a byte
        if node.op == "IsNaN":
            return [np.isnan(x)]
        negative, positive = node.attrs["negative"], node.attrs["positive"]
        return [np.isinf(x) & (((x < 0) & negative) | ((x > 0) & positive))]
