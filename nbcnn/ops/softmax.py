"""Softmax, LogSoftmax and Hardmax, and their gradients."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from nbcnn.binder import Binder
from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.ops.base import Facts, Op, register
from nbcnn.ops.broadcast import memory_order
from nbcnn.ops.elementwise import need_float

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward


class _OverAxes(Op):
    """ONNX opsets 1, 11 (over all axes from `axis` on, default 1, taken as one) and 13 (over one axis, default -1).

    Normalized: attribute axes, those that are taken as one.
    """

    since = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        need_float(node, x)
        rank = len(x.dims)
        axis = int(node.attrs.get("axis", 1 if facts.opset < 13 else -1))
        # Before opset 13 the axis may be the rank itself: then every element is a softmax of its own.
        if not -rank <= axis < rank + (facts.opset < 13):
            raise ModelError(f"{node.label}: axis {axis} is outside the input's shape {x.dims}")
        axis += rank if axis < 0 else 0
        node.attrs = {"axes": tuple(range(axis, rank)) if facts.opset < 13 else (axis,)}


@register("Softmax", "LogSoftmax")
class Softmax(_OverAxes):
    """The axes are neighbours in memory in either layout: those from some axis on lie before the channels when the
    channels are not among them, and reach to the end when they are.
    """

    needs_whole = True

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        attrs = node.attrs | {"log": node.op == "LogSoftmax"}
        return [back.add("SoftmaxGrad", [node.outputs[0], dy], like=node.inputs[0], attrs=attrs)]

    def bind(self, node: Node, b: Binder) -> None:
        x = b.value(node.inputs[0])
        if x.size:
            shape = _shape(x, node.attrs["axes"])
            b.call("softmax", b.buffer(x.name), b.buffer(node.outputs[0]), shape, node.op == "LogSoftmax")


@register("Hardmax")
class Hardmax(_OverAxes):
    """1 at the first of the largest elements, 0 elsewhere. First is meant in ONNX order."""

    layout = "plain"
    differentiable = False

    def bind(self, node: Node, b: Binder) -> None:
        x = b.value(node.inputs[0])
        if x.size:
            b.call("hardmax", b.buffer(x.name), b.buffer(node.outputs[0]), _shape(x, node.attrs["axes"]))


def _shape(x: Value, axes: tuple[int, ...]) -> tuple[int, int, int]:
    """x in memory as (outer, the axes taken as one, inner)."""
    places = [place for place, axis in enumerate(memory_order(x)) if axis in axes]
    if not places:
        return x.size, 1, 1
    physical = x.physical
    first, last = places[0], places[-1]
    return prod(physical[:first]), prod(physical[first : last + 1]), prod(physical[last + 1 :])


@register("SoftmaxGrad")
class SoftmaxGrad(Op):
    """inputs: Y, dY -> dX. Attributes: axes, log (whether Y is of LogSoftmax)."""

    needs_whole = True

    def bind(self, node: Node, b: Binder) -> None:
        y, dy = node.inputs
        _ = b.in_place(node.outputs[0], dy) or b.in_place(node.outputs[0], y)
        value = b.value(y)
        if value.size:
            shape = _shape(value, node.attrs["axes"])
            b.call("softmax_grad", b.buffer(y), b.buffer(dy), b.buffer(node.outputs[0]), shape, node.attrs["log"])
