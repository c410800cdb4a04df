"""Cast and CastLike: from any element type to any other.

All floats of a network are computed in one type, so a cast to float32 or float64 changes nothing; one to float16 or
bfloat16 rounds, and the rounded values go on in that one type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value, is_float
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.convert import convert
from nbcnn.ops.element_types import element_type, is_text
from nbcnn.ops.strided import copy, strides

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["cast_attributes"]

NARROWER = {"float32": (23, -126, 127), "float16": (10, -14, 15), "bfloat16": (7, -126, 127)}
"""The types to which values are rounded: bits behind the leading one; exponents of the smallest normal and of the
largest number.
"""


def cast_attributes(
    source: np.dtype, to: np.dtype, saturate: bool = True, round_mode: str = "up"
) -> dict[str, np.dtype | bool | str]:
    """The attributes of a normalized Cast; source, to: the types that the file gives to input and output."""
    return {"from": source, "to": to, "saturate": saturate, "round_mode": round_mode}


@register("Cast", "CastLike")
class Cast(Op):
    """ONNX: Cast 1 (`to` a name), 6, 9, 13, 19 (saturate), 21, 23, 24 (round_mode), 25, 28; CastLike 15, 19, 21, 23,
    24, 25, 28. Normalized: cast_attributes.

    Strings are cast when the plan is made, for which a run computes them first.
    """

    since = 6
    activations = (0,)

    def normalize(self, node: Node, facts: Facts) -> None:
        source, x = facts.dtype(node, 0), facts.value(node, 0)
        to = facts.dtype(node, 1) if node.op == "CastLike" else element_type(node, _number(node))
        saturate, mode = bool(node.attrs.get("saturate", 1)), str(node.attrs.get("round_mode", "up"))
        if mode not in ("up", "down", "nearest"):
            raise ModelError(f"{node.label}: round_mode {mode!r} is none of 'up', 'down', 'nearest'")
        node.op, node.inputs = "Cast", node.inputs[:1]
        node.attrs = cast_attributes(source, to, saturate, mode)
        if is_float(to):
            facts.declared[node.outputs[0]] = to
        if is_text(source) or is_text(to):
            facts.constant(node, 0, "what is cast from or to strings")
        assert x.dtype is not None
        holds = source == to or to.itemsize > min(source.itemsize, x.dtype.itemsize - 1)
        if is_float(source) and is_float(to) and holds:
            node.op, node.attrs = "Identity", {"shape": x.dims}

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        if arrays[0] is None:
            return None
        if node.op == "Identity":
            return [arrays[0]]
        at = node.attrs
        return [convert(node, arrays[0], at["from"], at["to"], at["saturate"], at["round_mode"])]

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x is not None and x.dtype is not None
        return [(x.dtype if node.op == "Identity" else node.attrs["to"], x.dims)]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        """Rounding lets the gradient pass; integers have none."""
        return [dys[0] if is_float(node.attrs["from"]) and is_float(node.attrs["to"]) else None]

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        to = node.attrs["to"].name
        assert x.dtype is not None
        if x.dtype == y.dtype == b.dtype:
            b.in_place(y.name, x.name)
            b.call("round_floats", b.buffer(x.name), b.buffer(y.name), *_grid(to, b.dtype))
        elif x.dtype.kind in "iub" and y.dtype == b.dtype and to in ("float32", "float64"):
            copy(b, x, y, list(zip(y.dims, strides(x), strides(y), strict=True)))
        else:
            super().bind(node, b)


def _grid(to: str, dtype: np.dtype) -> tuple[Any, ...]:
    """What `round_floats` asks of the numbers of type `to`, held in `dtype`."""
    mantissa, lowest, highest = NARROWER[to]
    drop = np.finfo(dtype).nmant - mantissa
    smallest, spacing, anchor = 2.0**lowest, 2.0 ** (lowest - mantissa), 2.0 ** (lowest + drop)
    largest = (2 - 2.0**-mantissa) * 2.0**highest
    return (drop, *(dtype.type(number) for number in (smallest, spacing, anchor, largest)))


def _number(node: Node) -> int:
    """The attribute `to`, which every Cast must have."""
    to: Any = node.attrs.get("to")
    if not isinstance(to, int):
        raise ModelError(f"{node.label}: attribute to={to!r} is no element type")
    return to
