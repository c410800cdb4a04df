"""Where: from either of two tensors, as a third says; and Trilu, which is that with a mask that is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.broadcast import aligned_strides, loops
from nbcnn.ops.strided import has_kernel

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward


class _Choice(Op):
    """Normalized: inputs C (booleans), A, B -> Y: A where C, else B, all broadcast to each other."""

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        c, a, b = inputs
        assert c is not None and a is not None and b is not None and a.dtype is not None
        if a.dtype != b.dtype:
            raise ModelError(f"{node.label}: chooses between {a.dtype} and {b.dtype}; they must be of one type")
        try:
            return [(a.dtype, np.broadcast_shapes(c.dims, a.dims, b.dims))]
        except ValueError:
            raise ModelError(
                f"{node.label}: shapes {c.dims}, {a.dims} and {b.dims} do not broadcast to each other"
            ) from None

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        c, a, b = arrays
        return None if c is None or a is None or b is None else [np.where(c, a, b)]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        """Each element of dY goes to the operand that it was taken from; the condition has no gradient."""
        (dy,) = dys
        assert dy is not None
        graph, (condition, *operands) = back.graph, node.inputs
        dtype = graph.values[dy].dtype
        zero = graph.new_value(f"{dy}.zero", dtype, ())
        graph.initializers[zero] = np.zeros((), dtype)
        found: list[str | None] = [None]
        for name, needed, pair in zip(operands, need[1:], ((dy, zero), (zero, dy)), strict=True):
            share = back.add("Where", [condition, *pair], like=dy) if needed else None
            if share and graph.values[name].dims != graph.values[dy].dims:
                share = back.add("ReduceSumTo", [share], like=name)
            found.append(share)
        return found

    def bind(self, node: Node, b: Binder) -> None:
        y = b.value(node.outputs[0])
        values = [b.value(name) for name in node.inputs]
        steps = [aligned_strides(x, len(y.dims)) for x in values]
        walked = loops(y, *steps)
        assert y.dtype is not None
        numbers = b.backend == "cuda" and has_kernel(y.dtype, "cuda")
        if walked is None or (y.dtype != b.dtype and not numbers):
            super().bind(node, b)
            return
        shape, strides = walked
        lies_alike = aligned_strides(y, len(y.dims))
        for x, step in zip(values[1:], steps[1:], strict=True):
            if step == lies_alike and b.in_place(y.name, x.name):
                break
        if y.size:
            b.call("choose", *(b.buffer(x.name) for x in values), b.buffer(y.name), shape, *strides)


@register("Where")
class Where(_Choice):
    """ONNX opsets 9, 16."""

    since = 9
    halves = 1


@register("Trilu")
class Trilu(_Choice):
    """ONNX opset 14: the upper (upper=1) or lower triangle of matrices, moved by k diagonals; zero elsewhere.

    Normalized to Where.
    """

    since = 14

    def normalize(self, node: Node, facts: Facts) -> None:
        x, moved = facts.value(node, 0), facts.constant(node, 1, "k, the diagonal,")
        if len(x.dims) < 2:
            raise ModelError(f"{node.label}: takes matrices, not a tensor of shape {x.dims}")
        k = 0 if moved is None else int(moved.reshape(()))
        rows, columns = np.arange(x.dims[-2])[:, None], np.arange(x.dims[-1])
        inside = columns - rows >= k if node.attrs.get("upper", 1) else columns - rows <= k
        mask, zero = facts.graph.fresh(f"{node.outputs[0]}.mask"), facts.graph.fresh(f"{node.outputs[0]}.zero")
        facts.define(mask, inside)
        facts.define(zero, np.zeros((), x.dtype))
        node.op, node.inputs, node.attrs = "Where", [mask, node.inputs[0], zero], {}
