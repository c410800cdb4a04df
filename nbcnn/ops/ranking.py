"""ArgMax, ArgMin and TopK: where the largest or smallest elements along an axis are, and which."""

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
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.indexed import along_axis
from nbcnn.ops.strided import copy, memory_order, strides

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

CODES = {"ArgMax": opcodes.MAX, "ArgMin": opcodes.MIN}


@register(*CODES)
class Arg(Op):
    """ONNX opsets 1, 11, 12 (select_last_index), 13. Normalized: axis, keepdims, last."""

    since = 1
    differentiable = False

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        axis = axis_of(node, int(node.attrs.get("axis", 0)), len(x.dims))
        if not x.dims[axis]:
            raise ModelError(f"{node.label}: axis {axis} of {x.dims} has no elements")
        node.attrs = {
            "axis": axis,
            "keepdims": bool(node.attrs.get("keepdims", 1)),
            "last": bool(node.attrs.get("select_last_index", 0)),
        }

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x, axis = inputs[0], node.attrs["axis"]
        assert x
        kept = (1,) if node.attrs["keepdims"] else ()
        return [(np.dtype(np.int64), (*x.dims[:axis], *kept, *x.dims[axis + 1 :]))]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x, axis = arrays[0], node.attrs["axis"]
        if x is None:
            return None
        find = np.argmax if node.op == "ArgMax" else np.argmin
        found = find(np.flip(x, axis) if node.attrs["last"] else x, axis, keepdims=node.attrs["keepdims"])
        return [np.asarray(x.shape[axis] - 1 - found if node.attrs["last"] else found, np.int64)]

    def bind(self, node: Node, b: Binder) -> None:
        x, y, axis = b.value(node.inputs[0]), b.value(node.outputs[0]), node.attrs["axis"]
        assert x.dtype is not None
        if x.dtype.kind != "f":
            super().bind(node, b)
            return
        if not y.size:
            return
        order = memory_order(x.layout, len(x.dims))
        at = order.index(axis)
        left = [k for k in order if k != axis]
        own = memory_order(y.layout, len(x.dims)) if node.attrs["keepdims"] else list(range(len(x.dims)))
        # Where the axes that are left lie in another order in y, memory in between has theirs in x.
        target = y
        if left != [k for k in own if k != axis]:
            target = b.value(b.graph.new_value(f"{y.name}.found", y.dtype, [x.dims[k] for k in left]))
        shape = prod(x.dims[k] for k in order[:at]), x.dims[axis], prod(x.dims[k] for k in order[at + 1 :])
        found = b.buffer(target.name)
        b.call("arg_extreme", CODES[node.op], b.buffer(x.name), b.scratch(y.size), found, shape, node.attrs["last"])
        if target is not y:
            into = iter(strides(y))
            steps = {k: next(into) for k in range(len(x.dims)) if k != axis or node.attrs["keepdims"]}
            copy(b, target, y, [(x.dims[k], s, steps[k]) for k, s in zip(left, strides(target), strict=True)])


@register("TopK")
class TopK(Op):
    """ONNX opsets 1 (k attribute), 10 (k input), 11 (largest, sorted): always sorted. Normalized: axis, k, largest."""

    layout = "plain"
    since = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        axis = axis_of(node, int(node.attrs.get("axis", -1)), len(x.dims))
        given = facts.ints(node, 1, "k", "k")
        if given is None or len(given) != 1 or not 0 <= given[0] <= x.dims[axis]:
            raise ModelError(f"{node.label}: cannot take the first {given} of axis {axis} of {x.dims}")
        outputs = [*node.outputs, ""][:2]
        # The gradient needs to know which elements were taken, even if nobody else asks.
        node.outputs = [name or facts.graph.fresh(f"{node.name}.unused") for name in outputs]
        node.inputs = node.inputs[:1]
        node.attrs = {"axis": axis, "k": given[0], "largest": bool(node.attrs.get("largest", 1))}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x, axis = inputs[0], node.attrs["axis"]
        assert x and x.dtype
        shape = (*x.dims[:axis], node.attrs["k"], *x.dims[axis + 1 :])
        return [(x.dtype, shape), (np.dtype(np.int64), shape)]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x, axis = arrays[0], node.attrs["axis"]
        if x is None:
            return None
        if node.attrs["largest"]:
            # Backwards twice, so that of equal elements the first comes first.
            order = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
        else:
            order = np.argsort(x, axis, kind="stable")
        order = order.take(range(node.attrs["k"]), axis).astype(np.int64)
        return [np.take_along_axis(x, order, axis), order]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        dy, x = dys[0], node.inputs[0]
        if dy is None:
            return [None]
        places = along_axis(back.graph.values[dy].dims, back.graph.values[x].dims, node.attrs["axis"])
        return [back.add("GatherAtGrad", [node.outputs[1], dy], like=x, attrs={"places": places})]

    def bind(self, node: Node, b: Binder) -> None:
        x, y, axis = b.value(node.inputs[0]), b.value(node.outputs[0]), node.attrs["axis"]
        assert x.dtype is not None
        if x.dtype.kind != "f":
            super().bind(node, b)
        elif y.size:
            shape = prod(x.dims[:axis]), x.dims[axis], prod(x.dims[axis + 1 :])
            buffers = [b.buffer(name) for name in (x.name, *node.outputs)]
            b.call("top_k", *buffers, shape, node.attrs["k"], node.attrs["largest"])
