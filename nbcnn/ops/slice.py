"""Slice: every step-th element between two bounds, along any axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.ops.axes import axis_of
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.strided import copy, fill, strides

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward


@register("Slice")
class Slice(Op):
    """ONNX opsets 1 (attributes), 10 (inputs, steps), 11, 13. Bounds are clamped and counted from the end as Python's.

    Normalized: starts and steps of every axis, shape (of the output).
    """

    since = 1
    halves = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        starts = facts.ints(node, 1, "starts", "starts")
        ends = facts.ints(node, 2, "ends", "ends")
        if starts is None or ends is None:
            raise ModelError(f"{node.label}: starts or ends are missing")
        axes = facts.ints(node, 3, "axes", "axes") or list(range(len(starts)))
        steps = facts.ints(node, 4, "steps", "steps") or [1] * len(starts)
        if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
            raise ModelError(
                f"{node.label}: starts {starts}, ends {ends}, axes {axes}, steps {steps} do not fit together"
            )
        ranges = [range(n) for n in x.dims]
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            axis = axis_of(node, axis, len(x.dims))
            ranges[axis] = range(x.dims[axis])[start:end:step]
        if all(kept == range(n) for kept, n in zip(ranges, x.dims, strict=True)):
            node.op = "Identity"
        node.inputs = node.inputs[:1]
        node.attrs = {
            "starts": tuple(r.start for r in ranges),
            "steps": tuple(r.step for r in ranges),
            "shape": tuple(len(r) for r in ranges),
        }

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x and x.dtype
        return [(x.dtype, node.attrs["shape"])]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x = arrays[0]
        if x is None:
            return None
        for axis, (start, step, count) in enumerate(zip(*node.attrs.values(), strict=True)):
            x = x.take(range(start, start + step * count, step), axis)
        return [x]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        return [back.add("SliceGrad", [dy], like=node.inputs[0], attrs=node.attrs)]

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        moves, start = _walk(node, x)
        copy(b, x, y, list(zip(y.dims, moves, strides(y), strict=True)), start, 0)


def _walk(node: Node, whole: Value) -> tuple[list[int], int]:
    """Strides and start of the sliced elements in the memory of the whole tensor."""
    steps = strides(whole)
    moves = [step * stride for step, stride in zip(node.attrs["steps"], steps, strict=True)]
    return moves, sum(start * stride for start, stride in zip(node.attrs["starts"], steps, strict=True))


@register("SliceGrad")
class SliceGrad(Op):
    """inputs: dY; -> dX, zero where nothing was taken."""

    halves = 1

    def bind(self, node: Node, b: Binder) -> None:
        dy, dx = b.value(node.inputs[0]), b.value(node.outputs[0])
        if dy.size < dx.size:
            fill(b, dx, 0)
        moves, start = _walk(node, dx)
        copy(b, dy, dx, list(zip(dy.dims, strides(dy), moves, strict=True)), 0, start)
