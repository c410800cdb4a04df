"""CumSum and CumProd: sums and products of all elements up to each, along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.kernels import opcodes
from nbcnn.ops.axes import axis_of
from nbcnn.ops.base import Facts, Op, register
from nbcnn.ops.element_types import need_numbers

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

CODES = {"CumSum": opcodes.ADD, "CumProd": opcodes.MUL}


@register("CumSum")
class Cumulative(Op):
    """ONNX opsets 11, 14. Normalized: attributes axis, exclusive (without the element itself), reverse
    (from the end).
    """

    since = 11

    def normalize(self, node: Node, facts: Facts) -> None:
        x, given = facts.value(node, 0), facts.constant(node, 1, "the axis")
        if given is None or given.size != 1:
            raise ModelError(f"{node.label}: the axis is one number, not {given}")
        need_numbers(node, x)
        node.inputs = node.inputs[:1]
        node.attrs = {
            "axis": axis_of(node, int(given.item()), len(x.dims)),
            "exclusive": bool(node.attrs.get("exclusive", 0)),
            "reverse": bool(node.attrs.get("reverse", 0)),
        }

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x = arrays[0]
        if x is None:
            return None
        rule, start = (np.cumsum, 0) if node.op == "CumSum" else (np.cumprod, 1)
        x = np.moveaxis(x, node.attrs["axis"], 0)
        x = x[::-1] if node.attrs["reverse"] else x
        y = rule(x, axis=0, dtype=x.dtype)
        if node.attrs["exclusive"]:
            y = np.concatenate([np.full_like(y[:1], start), y[:-1]])
        return [np.moveaxis(y[::-1] if node.attrs["reverse"] else y, 0, node.attrs["axis"])]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        """Each element is in the sums after it: a sum from the other end."""
        (dy,) = dys
        assert dy is not None
        return [
            back.add("CumSum", [dy], like=node.inputs[0], attrs=node.attrs | {"reverse": not node.attrs["reverse"]})
        ]

    def bind(self, node: Node, b: Binder) -> None:
        x, y = node.inputs[0], node.outputs[0]
        if b.value(x).dtype != b.dtype:
            super().bind(node, b)
        elif b.value(y).size:
            b.call("accumulate", CODES[node.op], b.buffer(x), b.buffer(y), *_settings(node, b))


def _settings(node: Node, b: Binder) -> tuple[tuple[int, int, int], int, int]:
    """The kernels' shape, exclusive and reverse."""
    x = node.inputs[0]
    dims, axis = b.shape(x), b.axis(x, node.attrs["axis"])
    shape = prod(dims[:axis]), dims[axis], prod(dims[axis + 1 :])
    return shape, int(node.attrs["exclusive"]), int(node.attrs["reverse"])


@register("CumProd")
class CumProd(Cumulative):
    """ONNX opset 26."""

    since = 26

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        """Each element is in the products after it, where the elements before it are a common factor. What is left is
        summed from the other end, multiplied on the way: so nothing is divided by, and zeros are right.
        """
        (dy,), (x,), attrs = dys, node.inputs, node.attrs
        assert dy is not None
        rest = back.add("CumProdRest", [x, dy], like=x, attrs=attrs | {"reverse": not attrs["reverse"]})
        before = node.outputs[0]
        if not attrs["exclusive"]:
            before = back.add("CumProd", [x], like=x, attrs=attrs | {"exclusive": True})
        return [back.add("Mul", [before, rest], like=x)]


@register("CumProdRest")
class CumProdRest(Op):
    """inputs: X, dY -> the sum of dY up to each element, each times the elements of X in between. Attributes: as
    CumProd.
    """

    def bind(self, node: Node, b: Binder) -> None:
        x, dy = node.inputs
        if b.value(x).size:
            b.call("accumulate_weighted", b.buffer(x), b.buffer(dy), b.buffer(node.outputs[0]), *_settings(node, b))
