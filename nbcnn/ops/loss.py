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

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder, Buffer
from nbcnn.errors import InputError
from nbcnn.graph import Node, Value
from nbcnn.ops.base import Op, Shaped, register

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["LOSSES"]

BLOCK = 4096
"""Elements of the prediction that are summed by one task."""
CLASS_LOSSES = ("SoftmaxCrossEntropy", "Hinge")
ELEMENT_LOSSES = ("SquaredError", "BinaryCrossEntropy", "BinaryCrossEntropyWithLogits", "Dice")
LOSSES = CLASS_LOSSES + ELEMENT_LOSSES


def _check(node: Node, x: Value, t: Value, classes: bool, values: bool) -> None:
    """Raise InputError unless the target fits: as class numbers, or as values of x's shape, where these are allowed."""
    positions = (x.dims[0], *x.dims[2:])
    classes_fit = classes and t.dtype == np.int64 and t.dims[:1] == positions[:1] and t.size == prod(positions)
    values_fit = values and t.dtype == x.dtype and t.dims == x.dims
    if classes and len(x.dims) < 2:
        raise InputError(f"{node.op} needs scores of shape (N, C, ...); {x.name!r} has shape {x.dims}")
    if not classes_fit and not values_fit:
        ways = [f"class numbers of shape {positions} (int64)"] * classes + [f"{x.dtype} of shape {x.dims}"] * values
        raise InputError(
            f"{node.op} of {x.name!r}: the targets must be {' or '.join(ways)}, not {t.dtype} of shape {t.dims}"
        )
    assert classes_fit or t.layout == x.layout, node.label


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
    """inputs: prediction, target -> loss (1,), gradient by the prediction, in its layout.

    classes: whether the target may be class numbers. Values must have the prediction's shape, type and layout.
    """

    classes = False
    needs_whole = True

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        """Raises InputError where the target does not fit the prediction."""
        x, t = inputs
        assert x and t and x.dtype is not None
        _check(node, x, t, self.classes, values=node.op != "Hinge")
        return [(np.dtype(np.float64), (1,)), (x.dtype, x.dims)]

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
    classes = True

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
    """inputs: prediction, target -> number of correct predictions (1,) int64.

    Without the attribute `threshold`, a position (a sample, or a pixel) is correct when its largest score is at the
    target's class, the first one where several are equal. With it, every element counts: it is correct when it lies
    above the threshold just where the target exceeds 0.5.
    """

    differentiable = False

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        """Raises InputError where the target does not fit the prediction."""
        x, t = inputs
        assert x and t
        _check(node, x, t, classes="threshold" not in node.attrs, values=True)
        return [(np.dtype(np.int64), (1,))]

    def bind(self, node: Node, b: Binder) -> None:
        x, count = b.value(node.inputs[0]), b.buffer(node.outputs[0])
        if "threshold" in node.attrs:
            threshold = float(node.attrs["threshold"])
            b.call("count_agreeing", b.buffer(x.name), b.buffer(node.inputs[1]), count, x.size, threshold)
        else:
            b.call("count_correct", b.buffer(x.name), *_targets(b, node), count, _positions(x))
