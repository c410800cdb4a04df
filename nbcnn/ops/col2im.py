"""Col2Im (ONNX opset 18): pictures from the columns of their windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbcnn.binder import Binder
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.geometry import Window, window
from nbcnn.graph import Node, Value
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.elementwise import need_float
from nbcnn.ops.gather import triple

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward


@register("Col2Im")
class Col2Im(Op):
    """inputs: X (N, C * taps, windows), image_shape, block_shape -> Y (N, C, D1...): what lies on a pixel is summed.

    Normalized: `window`.
    """

    layout = "plain"
    activations = (0,)
    since = 18

    def normalize(self, node: Node, facts: Facts) -> None:
        x, attrs = facts.value(node, 0), node.attrs
        need_float(node, x)
        size = facts.ints(node, 1, "image_shape", "the image's shape") or []
        block = facts.ints(node, 2, "block_shape", "the block's shape") or []
        if not 1 <= len(size) <= 3:
            raise UnsupportedError(f"{node.label}: 1 to 3 spatial dimensions are supported, not an image of {size}")
        win = window(size, block, attrs.get("strides"), attrs.get("pads"), attrs.get("dilations"))
        windows = 1
        for n in win.out:
            windows *= n
        if len(x.dims) != 3 or x.dims[1] % win.taps or x.dims[2] != windows:
            raise ModelError(
                f"{node.label}: an image of {size} has {windows} blocks of {block}; the input {x.dims} is not "
                f"(N, C * {win.taps}, {windows})"
            )
        node.inputs = node.inputs[:1]
        node.attrs = {"window": win}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        (x,), win = inputs, node.attrs["window"]
        assert x and x.dtype
        return [(x.dtype, (x.dims[0], x.dims[1] // win.taps, *win.size))]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        return [back.add("Im2Col", [dy], like=node.inputs[0], attrs=node.attrs)]

    def bind(self, node: Node, b: Binder) -> None:
        y = b.value(node.outputs[0])
        arrays = b.buffer(node.inputs[0]), b.buffer(y.name)
        b.call("columns_to_pictures", *arrays, y.dims[0] * y.dims[1], _geometry(node.attrs["window"]))


def _geometry(win: Window) -> tuple[int, ...]:
    ones = (win.size, win.out, win.kernel, win.strides, win.dilations)
    return (*(n for values in ones for n in triple(values, 1)), *triple(win.begins, 0))


@register("Im2Col")
class Im2Col(Op):
    """inputs: dY (N, C, D1...) -> dX (N, C * taps, windows). Attributes are those of the forward node."""

    def bind(self, node: Node, b: Binder) -> None:
        dy = b.value(node.inputs[0])
        arrays = b.buffer(dy.name), b.buffer(node.outputs[0])
        b.call("pictures_to_columns", *arrays, dy.dims[0] * dy.dims[1], _geometry(node.attrs["window"]))
