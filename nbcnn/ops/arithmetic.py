"""Operators that broadcast: Add, Sub, Mul, Div, Mod, Pow, and of any number of inputs Sum, Mean, Max, Min; with their
gradients.

Operands of one shape, one repeated along all but the last axis in memory (a value for each channel) and single numbers
have fast paths in the kernel. Integers are left to NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value, is_float
from nbcnn.kernels import opcodes
from nbcnn.ops import whole_numbers
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.broadcast import aligned_strides, combine, loops
from nbcnn.ops.cast import cast_attributes
from nbcnn.ops.element_types import need_numbers
from nbcnn.ops.legacy import align_operands

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

CODES = {
    "Add": opcodes.ADD,
    "Sub": opcodes.SUB,
    "Mul": opcodes.MUL,
    "Div": opcodes.DIV,
    "Pow": opcodes.POW,
    "Mod": opcodes.MOD,
    "Sum": opcodes.ADD,
    "Mean": opcodes.ADD,
    "Max": opcodes.MAX,
    "Min": opcodes.MIN,
    "Equals": opcodes.EQUAL,
    "PowBaseGrad": opcodes.POW_BASE_GRAD,
    "PowExponentGrad": opcodes.POW_EXPONENT_GRAD,
}


FOLDS: dict[str, whole_numbers.Fold] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": whole_numbers.divide,
    "Pow": whole_numbers.power,
    "Mod": whole_numbers.modulo,
    "Sum": np.add,
    "Mean": np.add,
    "Max": np.maximum,
    "Min": np.minimum,
}
BROADCAST_EARLY = ("Add", "Sub", "Mul", "Div", "Pow")
"""The operators that broadcast before opset 8, each in its own way."""


@register(*(op for op in CODES if op != "Mod"))
class Arithmetic(Op):
    """ONNX: Add, Sub, Mul, Div 1, 6, 7, 13, 14; Pow 1, 7, 12, 13, 15; Sum, Mean 1, 6, 8, 13; Max, Min 1, 6,
    8, 12, 13. The last three of CODES are gradients'. Normalized: attribute fmod (Mod).

    Add of two equal shapes may have attributes low and high: a clamp that the fuse pass has put there.
    """

    since = 1
    halves = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        if not node.inputs or not all(node.inputs):
            raise ModelError(f"{node.label}: an operand is missing")
        if node.op in BROADCAST_EARLY and len(node.inputs) == 2:
            align_operands(node, facts)
        values = [facts.value(node, i) for i in range(len(node.inputs))]
        for x in values:
            need_numbers(node, x)
        if node.op not in BROADCAST_EARLY and facts.opset < 8 and len({x.dims for x in values}) > 1:
            raise ModelError(
                f"{node.label}: shapes {' and '.join(str(x.dims) for x in values)} differ, which {node.op} does not "
                f"allow in opset {facts.opset}"
            )
        fmod = bool(node.attrs.get("fmod", 0))
        node.attrs = {"fmod": fmod} if node.op == "Mod" else {}
        if node.op == "Pow":
            _make_exponent_float(node, facts)
        elif len({x.dtype for x in values}) > 1:
            kinds = " and ".join(str(x.dtype) for x in values)
            raise ModelError(f"{node.label}: operands of the types {kinds}; they must be of one")
        if len(values) == 1:
            node.op, node.attrs = "Identity", {"shape": values[0].dims}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        operands = [x for x in inputs if x is not None]
        shapes = [x.dims for x in operands]
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:
            raise ModelError(
                f"{node.label}: shapes {' and '.join(map(str, shapes))} do not broadcast to each other"
            ) from None
        assert operands[0].dtype is not None
        return [(operands[0].dtype, shape)]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        known = [a for a in arrays if a is not None]
        if len(known) != len(arrays):
            return None
        if node.op == "Identity":
            return [known[0]]
        rule = whole_numbers.remainder if node.attrs.get("fmod") else FOLDS[node.op]
        y = reduce(rule, known)
        return [np.divide(y, len(known), dtype=y.dtype) if node.op == "Mean" else y]

    def bind(self, node: Node, b: Binder) -> None:
        operands = [b.value(name) for name in node.inputs]
        y = b.value(node.outputs[0])
        fits = loops(y, *(aligned_strides(x, len(y.dims)) for x in operands)) is not None
        if any(x.dtype != b.dtype for x in operands) or (not fits and node.op in FOLDS):
            super().bind(node, b)
            return
        bind_arithmetic(node, b, opcodes.FMOD if node.attrs.get("fmod") else CODES[node.op])
        if node.op == "Mean":
            share = b.constant(np.array([1 / len(node.inputs)], b.dtype))
            walked, once = aligned_strides(y, len(y.dims)), (0,) * len(y.dims)
            combine(b, opcodes.MUL, (b.buffer(y.name), share), (walked, once), y)

    # --- gradients

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        if node.op in ("Max", "Min"):
            return _grad_of_extreme(node, back, dy, need)
        if node.op == "Mean":
            dy = back.add("Repeat", [dy], like=dy, attrs={"axes": (), "scale": 1 / len(node.inputs)})
        if node.op in ("Add", "Sum", "Mean"):
            dy, _ = back.unclamp(node, dy)
            return [_reduced(back, dy, x) if n else None for x, n in zip(node.inputs, need, strict=True)]
        rule = {"Sub": _grad_of_sub, "Mul": _grad_of_mul, "Div": _grad_of_div, "Pow": _grad_of_pow}[node.op]
        whole = rule(node, back, dy, need)
        return [_reduced(back, g, x) if g else None for x, g in zip(node.inputs, whole, strict=True)]


@register("Mod")
class Mod(Arithmetic):
    """ONNX opsets 10, 13; what is left of floats by a division is not trained through."""

    since = 10
    grad = Op.grad


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
    if not is_float(base.dtype) or is_float(exponent.dtype):
        return
    known = facts.foldable.get(exponent.name)
    if known is None:
        attrs = cast_attributes(exponent.dtype, base.dtype)
        node.inputs[1] = facts.insert("Cast", [exponent.name], exponent.dims, node, attrs, dtype=base.dtype)
    else:
        node.inputs[1] = facts.graph.fresh(f"{exponent.name}.float")
        facts.define(node.inputs[1], known.astype(base.dtype))


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
