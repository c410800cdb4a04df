"""Operators that broadcast: Add, Sub, Mul, Div, Pow, and of any number of inputs Sum, Max, Min; with their gradients.

Operands of one shape, one repeated along all but the last axis in memory (a value for each channel) and single numbers
have fast paths in the kernel. Integers are known when the plan is made (shape arithmetic), or not computed with at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.graph import Node, Value
from nbcnn.kernels import opcodes
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.broadcast import aligned_strides, combine
from nbcnn.ops.elementwise import need_float

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

CODES = {
    "Add": opcodes.ADD,
    "Sub": opcodes.SUB,
    "Mul": opcodes.MUL,
    "Div": opcodes.DIV,
    "Pow": opcodes.POW,
    "Sum": opcodes.ADD,
    "Max": opcodes.MAX,
    "Min": opcodes.MIN,
    "Equals": opcodes.EQUAL,
    "PowBaseGrad": opcodes.POW_BASE_GRAD,
    "PowExponentGrad": opcodes.POW_EXPONENT_GRAD,
}


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """As ONNX Div: integers are truncated toward zero."""
    if a.dtype.kind == "f":
        return a / b
    if not b.all():
        raise ModelError("an integer is divided by zero")
    return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))


FOLDS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divide,
    "Pow": lambda a, b: np.power(a, b).astype(a.dtype),
    "Sum": np.add,
    "Max": np.maximum,
    "Min": np.minimum,
}


@register(*CODES)
class Arithmetic(Op):
    """ONNX: Add, Sub, Mul, Div 7, 13, 14; Pow 7, 12, 13, 15; Sum 6, 8, 13; Max, Min 6, 8, 12, 13. The last three of
    CODES are gradients'.

    Add of two equal shapes may have attributes low and high: a clamp that the fuse pass has put there.
    """

    since = 6

    def normalize(self, node: Node, facts: Facts) -> None:
        if not node.inputs or not all(node.inputs):
            raise ModelError(f"{node.label}: an operand is missing")
        shapes = [facts.value(node, i).dims for i in range(len(node.inputs))]
        if facts.opset < 7 and len(set(shapes)) > 1:
            raise UnsupportedError(
                f"{node.label}: broadcasting {shapes} by the rules of opset {facts.opset} is not supported; "
                "convert the file to opset 7 or later"
            )
        node.attrs = {}
        if node.op == "Pow":
            _make_exponent_float(node, facts)
        if len(node.inputs) == 1:
            node.op, node.attrs = "Identity", {"shape": shapes[0]}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        operands = [x for x in inputs if x is not None]
        shapes = [x.dims for x in operands]
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:
            raise ModelError(
                f"{node.label}: shapes {' and '.join(map(str, shapes))} do not broadcast to each other"
            ) from None
        kinds = [need_float(node, x, i) for i, x in enumerate(operands)]
        return [(kinds[0], shape)]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        known = [a for a in arrays if a is not None]
        if len(known) != len(arrays):
            return None
        return [known[0] if node.op == "Identity" else reduce(FOLDS[node.op], known)]

    def bind(self, node: Node, b: Binder) -> None:
        bind_arithmetic(node, b, CODES[node.op])

    # --- gradients

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        if node.op in ("Max", "Min"):
            return _grad_of_extreme(node, back, dy, need)
        if node.op in ("Add", "Sum"):
            dy, _ = back.unclamp(node, dy)
            return [_reduced(back, dy, x) if n else None for x, n in zip(node.inputs, need, strict=True)]
        rule = {"Sub": _grad_of_sub, "Mul": _grad_of_mul, "Div": _grad_of_div, "Pow": _grad_of_pow}[node.op]
        whole = rule(node, back, dy, need)
        return [_reduced(back, g, x) if g else None for x, g in zip(node.inputs, whole, strict=True)]


def bind_arithmetic(node: Node, b: Binder, code: int) -> None:
    """Emit y = first op second (op third ...) for inputs that broadcast; y takes over the memory of one of them where
    nobody else reads it.
    """
    y = b.value(node.outputs[0])
    rank = len(y.dims)
    operands = [b.value(name) for name in node.inputs]
    steps = [aligned_strides(x, rank) for x in operands]
    lies_alike = aligned_strides(y, rank)
    for x, step in zip(operands, steps, strict=True):
        if step == lies_alike and b.in_place(y.name, x.name):
            # The one that is overwritten comes first, because the others are still to be read.
            break
    target = b.buffer(y.name)
    buffers = [b.buffer(x.name) for x in operands]
    clamp = node.attrs.get("low", -inf), node.attrs.get("high", inf)
    if len(operands) > 2:
        order = sorted(range(len(operands)), key=lambda i: buffers[i] is not target)
        buffers, steps = [buffers[i] for i in order], [steps[i] for i in order]
    left, at = buffers[0], steps[0]
    for right, step in zip(buffers[1:], steps[1:], strict=True):
        combine(b, code, (left, right), (at, step), y, clamp)
        left, at = target, lies_alike


def _make_exponent_float(node: Node, facts: Facts) -> None:
    """From opset 12 on a power of floats may have a whole number of an integer type as its exponent."""
    base, exponent = facts.value(node, 0), facts.value(node, 1)
    assert base.dtype is not None and exponent.dtype is not None
    known = facts.constants.get(exponent.name)
    if base.dtype.kind == "f" and exponent.dtype.kind in "iu" and known is not None:
        name = facts.graph.new_value(f"{exponent.name}.float", base.dtype, exponent.dims)
        facts.graph.initializers[name] = known.astype(base.dtype)
        node.inputs[1] = name


def _reduced(back: Backward, dx: str, like: str) -> str:
    """dx summed over the axes along which an operand was repeated."""
    if back.graph.values[dx].dims == back.graph.values[like].dims:
        return dx
    return back.add("ReduceSumTo", [dx], like=like)


Grads = list[str | None]


def _grad_of_sub(node: Node, back: Backward, dy: str, need: list[bool]) -> Grads:
    return [dy, back.add("Neg", [dy], like=dy) if need[1] else None]


def _grad_of_mul(node: Node, back: Backward, dy: str, need: list[bool]) -> Grads:
    a, b = node.inputs
    return [
        back.add("Mul", [dy, b], like=dy) if need[0] else None,
        back.add("Mul", [dy, a], like=dy) if need[1] else None,
    ]


def _grad_of_div(node: Node, back: Backward, dy: str, need: list[bool]) -> Grads:
    (_, b), (y,) = node.inputs, node.outputs
    over = back.add("Div", [dy, b], like=dy)
    if not need[1]:
        return [over, None]
    return [over, back.add("Neg", [back.add("Mul", [over, y], like=dy)], like=dy)]


def _grad_of_pow(node: Node, back: Backward, dy: str, need: list[bool]) -> Grads:
    """PyTorch's conventions: no gradient by the base where the exponent is 0, none by the exponent where 0 ** b is 0 or
    1.
    """
    found: Grads = []
    for op, needed in zip(("PowBaseGrad", "PowExponentGrad"), need, strict=True):
        slope = back.add(op, list(node.inputs), like=dy) if needed else None
        found.append(back.add("Mul", [dy, slope], like=dy) if slope else None)
    return found


def _grad_of_extreme(node: Node, back: Backward, dy: str, need: list[bool]) -> Grads:
    """Where several inputs have the maximum (or minimum), the first of them gets the gradient."""
    found: Grads = []
    last = max(i for i, n in enumerate(need) if n)
    for index, x in enumerate(node.inputs[: last + 1]):
        takes = back.add("Equals", [x, node.outputs[0]], like=dy)
        share = back.add("Mul", [dy, takes], like=dy)
        found.append(_reduced(back, share, x) if need[index] else None)
        if index < last:
            dy = back.add("Sub", [dy, share], like=dy)
    return found + [None] * (len(node.inputs) - len(found))
