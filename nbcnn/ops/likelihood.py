"""NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: losses that are part of a network.

The trainer's own losses are in loss.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.kernels import opcodes
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.elementwise import need_float

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

REDUCTIONS = {"none": opcodes.EACH, "sum": opcodes.TOTAL, "mean": opcodes.MEAN}
BLOCK = 4096
"""Positions that one task of the kernel takes."""


@register("NegativeLogLikelihoodLoss")
class NegativeLogLikelihoodLoss(Op):
    """ONNX opsets 12, 13, 22. Logarithms of probabilities (N, C, d...), labels (N, d...), weights (C) or none -> loss.

    Normalized: attributes reduction (of opcodes.py) and ignore (whether a label is left out, and which); a second
    output, the sum of the weights of all labels.
    """

    activations = (0,)
    since = 12
    alike = (0, 2)
    needs_whole = True

    def normalize(self, node: Node, facts: Facts) -> None:
        x, labels = facts.value(node, 0), facts.value(node, 1)
        assert labels.dtype is not None
        need_float(node, x)
        if len(x.dims) < 2 or labels.dims != (x.dims[0], *x.dims[2:]) or labels.dtype.kind != "i":
            raise ModelError(
                f"{node.label}: labels {labels.dtype} {labels.dims} do not fit scores {x.dims}: "
                "they must be integers, one for each place of (N, C, d...)"
            )
        if node.input(2) and facts.value(node, 2).dims != x.dims[1:2]:
            raise ModelError(
                f"{node.label}: the weights {facts.value(node, 2).dims} are not one for each of {x.dims[1]}"
            )
        reduction = node.attrs.get("reduction", "mean")
        if reduction not in REDUCTIONS:
            raise ModelError(f"{node.label}: reduction {reduction!r} is none of {', '.join(REDUCTIONS)}")
        ignore = node.attrs.get("ignore_index")
        node.attrs = {"reduction": REDUCTIONS[reduction], "ignore": (ignore is not None, int(ignore or 0))}
        node.outputs = [node.outputs[0], facts.graph.fresh(f"nbcnn.{node.outputs[0]}.weight")]

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x, labels = inputs[:2]
        assert x is not None and x.dtype is not None and labels is not None
        return [(x.dtype, labels.dims if node.attrs["reduction"] == opcodes.EACH else ()), (x.dtype, (1,))]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        found: list[str | None] = [None] * len(node.inputs)
        if need[0] and dys[0] is not None:
            x, labels, weights = (node.input(i) for i in range(3))
            inputs = [dys[0], labels, weights, node.outputs[1]]
            found[0] = back.add("LogLikelihoodGrad", inputs, like=x, attrs=node.attrs)
        return found

    def bind(self, node: Node, b: Binder) -> None:
        x, labels, weights = (node.input(i) for i in range(3))
        arrays = b.buffer(x), b.buffer(labels), b.optional(weights), *(b.buffer(name) for name in node.outputs)
        blocks = -(-b.value(labels).size // BLOCK)
        b.call(
            "log_likelihood", node.attrs["reduction"], *arrays, b.scratch(2 * blocks, np.float64), *_where(node, b, x)
        )


def _where(node: Node, b: Binder, name: str) -> tuple[Any, Any]:
    """The kernels' shape and ignored."""
    x = b.value(name)
    n, channels, pixels = x.dims[0], x.dims[1], prod(x.dims[2:])
    shape = (n * pixels, channels, 1) if x.layout == "last" else (n, channels, pixels)
    left_out, label = node.attrs["ignore"]
    return shape, (int(left_out), label, channels)


@register("SoftmaxCrossEntropyLoss")
class SoftmaxCrossEntropyLoss(NegativeLogLikelihoodLoss):
    """ONNX opsets 12, 13. Scores (N, C, d...), labels, weights or none -> loss, logarithms of probabilities.

    Normalized: a LogSoftmax over the channels, and the loss of what it gives.
    """

    rewritten = True
    needs_whole = True

    def normalize(self, node: Node, facts: Facts) -> None:
        x, second = facts.value(node, 0), node.output(1)
        super().normalize(node, facts)
        if second:
            facts.graph.values[second] = Value(second, x.dtype, x.dims)
        name = second or facts.graph.new_value(f"{node.outputs[0]}.LogSoftmax", x.dtype, x.dims)
        facts.graph.nodes.append(Node("LogSoftmax", [x.name], [name], {"axes": (1,)}, name=node.name))
        node.op, node.inputs[0] = "NegativeLogLikelihoodLoss", name


@register("LogLikelihoodGrad")
class LogLikelihoodGrad(Op):
    """inputs: dY, labels, weights or none, the sum of weights -> dX. Attributes: of the loss."""

    activations = ()

    def bind(self, node: Node, b: Binder) -> None:
        dx = b.buffer(node.outputs[0])
        if dx.size:
            b.call("fill", dx, b.dtype.type(0))
        arrays = (b.optional(name) for name in node.inputs)
        b.call("log_likelihood_grad", node.attrs["reduction"], *arrays, dx, *_where(node, b, node.outputs[0]))
