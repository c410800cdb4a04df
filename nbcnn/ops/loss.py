"""Losses, and the count of correct predictions: nodes that the trainer appends to a lowered graph.

Every loss is a mean, of shape (1,) and type float64 whatever the network computes in. Its second output is the gradient
by the prediction, computed in the same pass. `grad` only hands it on: the gradient that arrives at a loss must be one.

| node | prediction | target | mean over the positions (one a sample, or one a pixel) or elements of |
|---|---|---|---|
| SoftmaxCrossEntropy | scores (N, C, d...) | class numbers or probabilities | -sum_c t_c log softmax(x)_c |
| Hinge | scores (N, C, d...) | class numbers | sum over c != t of max(0, 1 + x_c - x_t) (Weston and Watkins, 1999) |
| SquaredError | any | of the same shape | (x - t)^2 |
| BinaryCrossEntropy | probabilities | of the same shape | -(t log x + (1 - t) log(1 - x)), logarithms at least -100 |
| BinaryCrossEntropyWithLogits | scores | of the same shape | the same of sigmoid(x), without its overflow |
| Dice | probabilities (N, ...) | of the same shape | 1 - (2 sum(x t) + 1) / (sum(x) + sum(t) + 1) of one sample |

Class numbers are int64 (N, d...); one that no class has makes the loss NaN.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder, Buffer
from nbcnn.errors import InputError
from nbcnn.graph import Graph, Node, Value
from nbcnn.ops.base import Op, register

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["LOSSES", "add_count", "add_loss"]

BLOCK = 4096
"""Elements of the prediction that are summed by one task."""
CLASS_LOSSES = ("SoftmaxCrossEntropy", "Hinge")
ELEMENT_LOSSES = ("SquaredError", "BinaryCrossEntropy", "BinaryCrossEntropyWithLogits", "Dice")
LOSSES = CLASS_LOSSES + ELEMENT_LOSSES


def add_loss(graph: Graph, op: str, prediction: str, target: str) -> str:
    """Append a loss (one of LOSSES) of two values of the graph; returns the name of the loss, a value of shape (1,).

    Whether the target holds class numbers is told from its type and shape. Raises InputError where the two do not fit.
    """
    by_class = _check(graph, op, prediction, target, op in CLASS_LOSSES, op != "Hinge")
    target = target if by_class else _alike(graph, target, prediction)
    model = graph.values[prediction]
    loss = graph.new_value("loss", np.float64, (1,))
    gradient = graph.new_value(f"{prediction}.dloss", model.dtype, model.dims, model.layout)
    graph.nodes.append(Node(op, [prediction, target], [loss, gradient], name=loss))
    return loss


def add_count(graph: Graph, prediction: str, target: str, threshold: float | None = None) -> str:
    """Append the number of correct predictions; returns the name of an int64 value of shape (1,).

    Without a threshold, a position (a sample, or a pixel) is correct when its largest score is at the target's class.
    With one, every element counts: it is correct when it lies above the threshold just where the target exceeds 0.5.
    """
    by_class = _check(graph, "Correct", prediction, target, threshold is None, True)
    target = target if by_class else _alike(graph, target, prediction)
    count = graph.new_value("correct", np.int64, (1,))
    graph.nodes.append(Node("Correct", [prediction, target], [count], {"threshold": threshold}, name=count))
    return count


def _check(graph: Graph, op: str, prediction: str, target: str, classes: bool, probabilities: bool) -> bool:
    """Whether the target holds class numbers; raises InputError where it fits neither way that is allowed."""
    x, t = graph.values[prediction], graph.values[target]
    assert x.dtype is not None and t.dtype is not None
    positions = (x.dims[0], *x.dims[2:])
    if classes and len(x.dims) >= 2 and t.dtype == np.int64 and t.dims == positions:
        return True
    if probabilities and t.dims == x.dims and t.dtype == x.dtype and (len(x.dims) >= 2 or not classes):
        return False
    fits = [f"class numbers of shape {positions} (int64)"] if classes and len(x.dims) >= 2 else []
    fits += [f"values of shape {x.dims} ({x.dtype})"] if probabilities else []
    wanted = " or ".join(fits) or "a prediction of shape (N, C, ...)"
    raise InputError(f"{op} of {prediction!r}: the target must be {wanted}; it has shape {t.dims} ({t.dtype})")


def _alike(graph: Graph, target: str, prediction: str) -> str:
    """The target in the prediction's layout."""
    x, t = graph.values[prediction], graph.values[target]
    if t.layout == x.layout:
        return target
    new = graph.new_value(f"{target}.{x.layout}", t.dtype, t.dims, x.layout)
    graph.nodes.append(Node("ToLayout", [target], [new]))
    return new


def _positions(x: Value) -> tuple[int, int, int]:
    """(outer, channels, inner): the memory of a prediction, channels in the middle; a position is an (outer, inner)."""
    n, channels, pixels = x.dims[0], x.dims[1], prod(x.dims[2:])
    return (n * pixels, channels, 1) if x.layout == "last" else (n, channels, pixels)


def _targets(b: Binder, node: Node) -> tuple[Buffer, Buffer]:
    """Class numbers and probabilities, one of which is empty."""
    name = node.inputs[1]
    by_class = b.value(name).dtype == np.int64
    return (b.buffer(name), b.empty()) if by_class else (b.empty(np.int64), b.buffer(name))


class _Loss(Op):
    """inputs: prediction, target -> loss (1,), gradient by the prediction."""

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        return [node.outputs[1], None]

    @staticmethod
    def gradient(node: Node, b: Binder) -> Buffer:
        """The gradient's memory: the prediction's own where nobody reads that any more."""
        if node.inputs[0] != node.inputs[1]:
            b.in_place(node.outputs[1], node.inputs[0])
        return b.buffer(node.outputs[1])


@register(*CLASS_LOSSES)
class ClassLoss(_Loss):
    def bind(self, node: Node, b: Binder) -> None:
        shape = _positions(b.value(node.inputs[0]))
        block = max(1, BLOCK // shape[1])
        partial = b.scratch(-(-shape[0] * shape[2] // block), np.float64)
        labels, soft = _targets(b, node)
        x, dx, loss = b.buffer(node.inputs[0]), self.gradient(node, b), b.buffer(node.outputs[0])
        b.call("class_loss", CLASS_LOSSES.index(node.op), x, labels, soft, dx, loss, partial, shape, block)


@register(*ELEMENT_LOSSES)
class ElementLoss(_Loss):
    def bind(self, node: Node, b: Binder) -> None:
        x = b.value(node.inputs[0])
        block, count = (x.size // x.dims[0], x.dims[0]) if node.op == "Dice" else (BLOCK, x.size)
        partial = b.scratch(-(-x.size // block), np.float64)
        t, dx, loss = b.buffer(node.inputs[1]), self.gradient(node, b), b.buffer(node.outputs[0])
        kind = ELEMENT_LOSSES.index(node.op)
        b.call("element_loss", kind, b.buffer(x.name), t, dx, loss, partial, x.size, block, count)


@register("Correct")
class Correct(Op):
    """inputs: prediction, target -> count (1,) int64. Attribute: threshold, or None."""

    differentiable = False

    def bind(self, node: Node, b: Binder) -> None:
        x, count = b.value(node.inputs[0]), b.buffer(node.outputs[0])
        threshold = node.attrs["threshold"]
        if threshold is None:
            b.call("count_correct", b.buffer(x.name), *_targets(b, node), count, _positions(x))
        else:
            b.call("count_agreeing", b.buffer(x.name), b.buffer(node.inputs[1]), count, x.size, float(threshold))
