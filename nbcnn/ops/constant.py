"""Operators whose value is known once shapes are: Constant, ConstantOfShape, EyeLike, Shape, Size, Range."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

import numpy as np

from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.ops.base import Facts, Op, register
from nbcnn.ops.element_types import TEXT, element_type

ATTRIBUTES = {
    "value": None,
    "sparse_value": None,
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_string": TEXT,
    "value_strings": TEXT,
}
"""The attributes that a Constant may have one of, and the element type that each stands for (None: its own)."""


LARGEST = 1 << 30
"""Bytes of a constant that a node may make out of a few numbers."""


def _allow(node: Node, count: int, dtype: np.dtype) -> None:
    """Raise ModelError before memory is asked for that nobody can mean."""
    if count * dtype.itemsize > LARGEST:
        raise ModelError(f"{node.label}: makes {count} elements out of nothing; {LARGEST >> 20} MiB are allowed")


@register("Constant")
class Constant(Op):
    """ONNX opsets 1, 9, 11 (sparse_value), 12 (value_int and so on), 13."""

    since = 1
    differentiable = False

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        given = [name for name in ATTRIBUTES if name in node.attrs]
        if len(given) != 1:
            raise ModelError(f"{node.label}: needs exactly one of the attributes {', '.join(ATTRIBUTES)}")
        return [np.asarray(node.attrs[given[0]], ATTRIBUTES[given[0]])]


@register("ConstantOfShape")
class ConstantOfShape(Op):
    """ONNX opsets 9, 20 and later. value: one element (default: 0 as float)."""

    since = 9
    differentiable = False

    def normalize(self, node: Node, facts: Facts) -> None:
        shape = facts.constant(node, 0, "the shape")
        if shape is None or shape.ndim != 1 or shape.dtype.kind not in "iu" or (shape.size and shape.min() < 0):
            what = shape.tolist() if shape is not None and shape.ndim == 1 else "that is not a list of numbers"
            raise ModelError(f"{node.label}: cannot make a tensor of shape {what}")
        value = np.asarray(node.attrs.get("value", np.zeros(1, np.float32)))
        if value.size != 1:
            raise ModelError(f"{node.label}: the attribute value is one element, not a tensor of shape {value.shape}")
        dims = [int(n) for n in shape.reshape(-1)]
        _allow(node, prod(dims), value.dtype)
        node.inputs = []
        node.attrs = {"array": np.full(dims, value.reshape(-1)[0], value.dtype)}

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        return [node.attrs["array"]]


@register("EyeLike")
class EyeLike(Op):
    """ONNX opsets 9, 22: a matrix of zeros with ones on diagonal k, of the input's shape. Normalized: k, dtype."""

    since = 9
    differentiable = False

    def normalize(self, node: Node, facts: Facts) -> None:
        number = node.attrs.get("dtype")
        dtype = facts.dtype(node, 0) if number is None else element_type(node, int(number))
        node.attrs = {"k": int(node.attrs.get("k", 0)), "dtype": dtype}
        if len(facts.value(node, 0).dims) != 2:
            raise ModelError(f"{node.label}: takes a matrix, not a tensor of shape {facts.value(node, 0).dims}")

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        assert inputs[0]
        rows, columns = inputs[0].dims
        _allow(node, rows * columns, np.dtype(np.float64))
        return [np.eye(rows, columns, node.attrs["k"]).astype(node.attrs["dtype"])]


@register("Shape")
class Shape(Op):
    """ONNX opsets 1, 13, 15 (start, end)."""

    since = 1
    differentiable = False

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x = inputs[0]
        assert x
        # ONNX clamps start and end to the rank, as Python does.
        return [np.array(x.dims[node.attrs.get("start", 0) : node.attrs.get("end")], np.int64)]


@register("Size")
class Size(Op):
    """ONNX opsets 1, 13."""

    since = 1
    differentiable = False

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        assert inputs[0]
        return [np.array(inputs[0].size, np.int64)]


@register("Range")
class Range(Op):
    """ONNX opset 11: start, start + delta, ... below limit (above it for a negative delta)."""

    since = 11
    differentiable = False

    def normalize(self, node: Node, facts: Facts) -> None:
        start, limit, delta = (facts.constant(node, k, what) for k, what in enumerate(("start", "limit", "delta")))
        if start is None or limit is None or delta is None or not delta.item():
            raise ModelError(f"{node.label}: needs a start, a limit and a delta that is not zero")
        first, step = start.item(), delta.item()
        distance = limit.item() - first
        count = max(-(-distance // step) if isinstance(distance, int) else ceil(distance / step), 0)
        _allow(node, count, np.dtype(np.float64))
        node.inputs = []
        node.attrs = {"array": (first + np.arange(count) * step).astype(start.dtype)}

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        return [node.attrs["array"]]
