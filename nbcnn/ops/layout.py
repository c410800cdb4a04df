"""ToLayout: a value in another memory order (channels last from ONNX order, or back). Made by the layout pass."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from nbcnn.binder import Binder
from nbcnn.graph import Node
from nbcnn.ops.base import Op, register

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward


@register("ToLayout")
class ToLayout(Op):
    """One input, one output, of equal ONNX shape and different layout. Free where there is one channel or one pixel."""

    halves = 1

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        return [back.add("ToLayout", [dy], like=node.inputs[0])]

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        n, channels, *spatial = x.dims
        pixels = prod(spatial)
        if x.layout == y.layout or channels == 1 or pixels == 1:
            b.alias(y.name, x.name)
        else:
            rows, columns = (channels, pixels) if y.layout == "last" else (pixels, channels)
            b.call("transpose_matrices", b.buffer(x.name), b.buffer(y.name), (n, rows, columns))
