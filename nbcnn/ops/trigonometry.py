"""Trigonometric and hyperbolic functions, and their inverses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder
from nbcnn.graph import Node, Value
from nbcnn.kernels import opcodes
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.elementwise import need_float

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

FUNCTIONS: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "Sin": (opcodes.SIN, np.sin),
    "Cos": (opcodes.COS, np.cos),
    "Tan": (opcodes.TAN, np.tan),
    "Asin": (opcodes.ASIN, np.arcsin),
    "Acos": (opcodes.ACOS, np.arccos),
    "Atan": (opcodes.ATAN, np.arctan),
    "Sinh": (opcodes.SINH, np.sinh),
    "Cosh": (opcodes.COSH, np.cosh),
    "Asinh": (opcodes.ASINH, np.arcsinh),
    "Acosh": (opcodes.ACOSH, np.arccosh),
    "Atanh": (opcodes.ATANH, np.arctanh),
}


@register(*FUNCTIONS)
class Trigonometry(Op):
    """ONNX: Sin, Cos, Tan, Asin, Acos, Atan 7, 22; Sinh, Cosh, Asinh, Acosh, Atanh 9, 22. inputs: X -> Y."""

    def normalize(self, node: Node, facts: Facts) -> None:
        node.attrs = {}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x is not None
        return [(need_float(node, x), x.dims)]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        return None if arrays[0] is None else [FUNCTIONS[node.op][1](arrays[0])]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        attrs = {"code": FUNCTIONS[node.op][0] + opcodes.SLOPE}
        return [back.add("TrigonometryGrad", [node.inputs[0], dy], like=node.inputs[0], attrs=attrs)]

    def bind(self, node: Node, b: Binder) -> None:
        _bind(node, b, FUNCTIONS[node.op][0])


# --- gradients ------------------------------------------------------------------------------------------------------


@register("TrigonometryGrad")
class TrigonometryGrad(Op):
    """inputs: X, dY -> dX. Attribute code: of the kernel."""

    def bind(self, node: Node, b: Binder) -> None:
        _bind(node, b, node.attrs["code"])


def _bind(node: Node, b: Binder, code: int) -> None:
    x, dy = node.inputs[0], node.inputs[-1]
    _ = b.in_place(node.outputs[0], dy) or b.in_place(node.outputs[0], x)
    b.call("trigonometry", code, b.buffer(x), b.buffer(dy), b.buffer(node.outputs[0]))
