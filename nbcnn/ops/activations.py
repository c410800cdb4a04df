"""Activations that are steps of the element-wise kernel, one or several: Gelu, Mish, Swish, Celu, ThresholdedRelu,
Shrink, Softsign; and Reciprocal. PROGRAMS says which steps; the pass that makes chains (passes/chains.py) joins them to
their neighbours, and their gradients are derived step by step (ops/derivative.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.kernels import opcodes
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.elementwise import bind_steps, chain_gradient, constants, need_float
from nbcnn.ops.program import Program, allocate

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["PROGRAMS", "program_of"]

Writer = Callable[[Program, int, dict[str, Any], np.dtype], int]
"""program, the number of its operand, attributes, element type -> the number of the result."""


def _gelu(p: Program, x: int, attrs: dict[str, Any], dtype: np.dtype) -> int:
    return p.step(opcodes.GELU if attrs["approximate"] == "none" else opcodes.GELU_TANH, x)


def _mish(p: Program, x: int, attrs: dict[str, Any], dtype: np.dtype) -> int:
    return p.step(opcodes.MISH, x)


def _swish(p: Program, x: int, attrs: dict[str, Any], dtype: np.dtype) -> int:
    return p.step(opcodes.SWISH, x, a=attrs["alpha"])


def _celu(p: Program, x: int, attrs: dict[str, Any], dtype: np.dtype) -> int:
    alpha = attrs["alpha"]
    if alpha == 1:
        return p.step(opcodes.ELU, x, a=1.0, b=1.0)
    left = p.step(opcodes.AFFINE, p.step(opcodes.CLIP, x, a=-inf, b=0.0), a=1 / alpha)
    # Where alpha is negative, what is left of zero comes to the right.
    bent = p.step(opcodes.ELU, left, a=alpha) if alpha > 0 else p.step(opcodes.AFFINE, _expm1(p, left), a=alpha)
    return p.pair(opcodes.ADD, p.step(opcodes.CLIP, x, a=0.0, b=inf), bent)


def _expm1(p: Program, x: int) -> int:
    """exp(x) - 1 of what is not negative."""
    return p.step(opcodes.AFFINE, p.step(opcodes.EXP, x), a=1.0, b=-1.0)


def _thresholded_relu(p: Program, x: int, attrs: dict[str, Any], dtype: np.dtype) -> int:
    return p.pair(opcodes.WITHIN, x, x, _above(attrs["alpha"], dtype), inf)


def _shrink(p: Program, x: int, attrs: dict[str, Any], dtype: np.dtype) -> int:
    lambd, bias = attrs["lambd"], attrs["bias"]
    left = p.pair(opcodes.WITHIN, x, p.step(opcodes.AFFINE, x, a=1.0, b=bias), -inf, -_above(lambd, dtype))
    low = max(_above(lambd, dtype), float(dtype.type(-lambd)))  # where the two cross, the left one counts
    right = p.pair(opcodes.WITHIN, x, p.step(opcodes.AFFINE, x, a=1.0, b=-bias), low, inf)
    return p.pair(opcodes.ADD, left, right)


def _reciprocal(p: Program, x: int, attrs: dict[str, Any], dtype: np.dtype) -> int:
    return p.pair(opcodes.DIV, p.step(opcodes.FILL, x, a=1.0), x)


def _softsign(p: Program, x: int, attrs: dict[str, Any], dtype: np.dtype) -> int:
    return p.pair(opcodes.DIV, x, p.step(opcodes.AFFINE, p.step(opcodes.ABS, x), a=1.0, b=1.0))


def _above(number: float, dtype: np.dtype) -> float:
    """The next number of this type."""
    return float(np.nextafter(dtype.type(number), dtype.type(inf)))


PROGRAMS: dict[str, tuple[dict[str, Any], Writer]] = {
    "Celu": ({"alpha": 1.0}, _celu),
    "Gelu": ({"approximate": "none"}, _gelu),
    "Mish": ({}, _mish),
    "Reciprocal": ({}, _reciprocal),
    "Shrink": ({"bias": 0.0, "lambd": 0.5}, _shrink),
    "Softsign": ({}, _softsign),
    "Swish": ({"alpha": 1.0}, _swish),
    "ThresholdedRelu": ({"alpha": 1.0}, _thresholded_relu),
}
"""Attributes with their default values, and what writes the steps."""


def program_of(node: Node, dtype: np.dtype) -> Program:
    program = Program()
    PROGRAMS[node.op][1](program, opcodes.X, node.attrs, dtype)
    return program


@register(*PROGRAMS)
class Composite(Op):
    """ONNX: Celu 12; Gelu 20; Mish 18, 22; Reciprocal 1, 6, 13; Shrink 9; Softsign 1, 22; Swish 24;
    ThresholdedRelu 1, 10, 22. inputs: X -> Y.
    """

    since = 1
    halves = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        node.attrs = {name: node.attrs.get(name, value) for name, value in PROGRAMS[node.op][0].items()}
        if node.op == "Celu" and node.attrs["alpha"] == 0:
            raise ModelError(f"{node.label}: alpha is 0, by which Celu divides")
        if node.attrs.get("approximate", "none") not in ("none", "tanh"):
            approximate = node.attrs["approximate"]
            raise ModelError(f"{node.label}: approximate is {approximate!r}; ONNX knows 'none' and 'tanh'")

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x is not None
        return [(need_float(node, x), x.dims)]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        if arrays[0] is None or node.op != "Reciprocal":  # shape arithmetic has no other
            return None
        return [np.reciprocal(arrays[0])]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        return [chain_gradient(back, self._program(node, back.graph.values), node.inputs[0], dy)]

    def bind(self, node: Node, b: Binder) -> None:
        program = self._program(node, b.graph.values)
        numbers = [float(c) for c in program.constants]
        bind_steps(node, b, allocate(program.steps), constants(b, numbers))

    @staticmethod
    def _program(node: Node, values: dict[str, Value]) -> Program:
        dtype = values[node.inputs[0]].dtype
        assert dtype is not None
        return program_of(node, dtype).pruned()
