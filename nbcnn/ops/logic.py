"""Operators that occur in shape arithmetic and are computed only there, from what is known when the plan is made.

Comparisons (Equal, Greater ...), And, Or, Not, Where, Mod, Floor, Ceil, Round: NumPy does them, no kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nbcnn.errors import UnsupportedError
from nbcnn.graph import Node, Value
from nbcnn.ops.base import Op, Shaped, register


def _modulo(node: Node, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """ONNX Mod: the sign of the divisor, or with fmod=1 that of the dividend."""
    return np.fmod(a, b) if node.attrs.get("fmod", 0) else np.mod(a, b)


RULES: dict[str, Callable[..., np.ndarray]] = {
    "And": np.logical_and,
    "Ceil": np.ceil,
    "Equal": np.equal,
    "Floor": np.floor,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Not": np.logical_not,
    "Or": np.logical_or,
    "Round": np.rint,
    "Where": np.where,
}


@register("Mod", *RULES)
class Known(Op):
    """ONNX opsets 1 to the newest (without the broadcasting of opset 6 and older)."""

    differentiable = False

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        known = [a for a in arrays if a is not None]
        if len(known) < len(arrays):
            return None
        return [_modulo(node, *known) if node.op == "Mod" else RULES[node.op](*known)]

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        raise UnsupportedError(
            f"{node.label}: {node.op} is only supported in shape arithmetic, not on what the input data decide"
        )
