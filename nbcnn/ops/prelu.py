"""PRelu: a leaky Relu whose slopes are learned, usually one for each channel.

Source: He et al., "Delving Deep into Rectifiers", 2015, equation 1; ONNX PRelu, opset 16.
The kernel is that of the operators that broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.kernels import opcodes
from nbcnn.ops.arithmetic import bind_arithmetic
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.elementwise import need_float

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward


@register("PRelu")
class PRelu(Op):
    """ONNX opsets 1, 6 (one slope, or one for each channel), 7, 9, 16. inputs: X, slope, which broadcasts to the shape
    of X -> Y.
    """

    since = 1
    activations = (0,)
    trainable = (1,)
    halves = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        node.attrs = {}
        x, slope = facts.value(node, 0), facts.value(node, 1)
        if facts.opset < 7 and slope.size > 1:
            if len(x.dims) < 2 or slope.dims != x.dims[1:2]:
                raise ModelError(
                    f"{node.label}: {slope.dims} slopes for an input of shape {x.dims}; one for each channel"
                )
            node.inputs[1] = facts.reshape(slope.name, (slope.size, *(1,) * (len(x.dims) - 2)), node)

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x, slope = inputs
        assert x is not None and slope is not None
        try:
            fits = np.broadcast_shapes(x.dims, slope.dims) == x.dims
        except ValueError:
            fits = False
        if not fits:
            raise ModelError(
                f"{node.label}: the slope's shape {slope.dims} does not broadcast to the input's {x.dims}; slopes for "
                f"channels have the shape (C{', 1' * (len(x.dims) - 2)})"
            )
        need_float(node, slope, 1)
        return [(need_float(node, x), x.dims)]

    def bind(self, node: Node, b: Binder) -> None:
        bind_arithmetic(node, b, opcodes.PRELU)

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        x, slope = node.inputs
        dx = dslope = None
        if need[0]:
            dx = back.add("Mul", [back.add("PReluGrad", [x, slope], like=x), dy], like=x)
        if need[1]:
            whole = back.add("PReluSlopeGrad", [x, dy], like=x)
            dslope = back.add("ReduceSumTo", [whole], like=slope)
        return [dx, dslope]


# --- gradients ------------------------------------------------------------------------------------------------------


@register("PReluGrad")
class PReluGrad(Op):
    """inputs: X, slope -> the derivative of Y by X: 1 where X > 0, the slope elsewhere."""

    halves = 1

    def bind(self, node: Node, b: Binder) -> None:
        bind_arithmetic(node, b, opcodes.PRELU_GRAD)


@register("PReluSlopeGrad")
class PReluSlopeGrad(Op):
    """inputs: X, dY -> dY times the derivative of Y by each element's slope: 0 where X > 0, X dY elsewhere."""

    def bind(self, node: Node, b: Binder) -> None:
        bind_arithmetic(node, b, opcodes.PRELU_SLOPE_GRAD)
