"""ConvTranspose (ONNX opsets 1, 11, 22): the gradient of a convolution by its input, as a layer.

Seen from its output, it is a Conv that goes from Y to X, with the same weights. So it is computed as that Conv's
gradient by the input is, and its own gradients are that Conv itself, and that Conv's gradient by the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbcnn.binder import Binder
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.geometry import Window, transposed_window
from nbcnn.graph import Node, Value
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.conv import bind_input_grad, input_grad_packing, is_depthwise
from nbcnn.ops.gather import Epilogue
from nbcnn.ops.packing import Packing
from nbcnn.ops.winograd import Factors

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["ConvTranspose"]


@register("ConvTranspose")
class ConvTranspose(Op):
    """inputs: X (N, C, D1...), W (C, M/group, k1...), B (M) or none, a residual of Y's shape or none (put there by the
    fuse pass) -> Y (N, M, O1...). Normalized: `window`, the Window of the Conv from Y to X.
    """

    layout = "last"
    activations = (0, 3)
    since = 1
    trainable = (1, 2)

    def normalize(self, node: Node, facts: Facts) -> None:
        x, w = facts.value(node, 0), facts.value(node, 1)
        rank = len(x.dims) - 2
        if not 1 <= rank <= 3:
            raise UnsupportedError(
                f"{node.label}: ConvTranspose needs 1 to 3 spatial dimensions, the input has shape {x.dims}"
            )
        attrs = node.attrs
        group = int(attrs.get("group", 1))
        if len(w.dims) != rank + 2 or x.dims[1] != w.dims[0] or w.dims[0] % group:
            raise ModelError(f"{node.label}: input {x.dims} does not fit weights {w.dims} with group={group}")
        kernel = tuple(attrs.get("kernel_shape", w.dims[2:]))
        if kernel != w.dims[2:]:
            raise ModelError(f"{node.label}: kernel_shape {kernel} is not that of the weights {w.dims}")
        win = transposed_window(
            x.dims[2:],
            kernel,
            attrs.get("strides"),
            attrs.get("pads"),
            attrs.get("dilations"),
            attrs.get("auto_pad", "NOTSET"),
            attrs.get("output_padding"),
            attrs.get("output_shape"),
        )
        node.attrs = {
            "group": group,
            "strides": win.strides,
            "dilations": win.dilations,
            "channel_axis": 1,
            "depthwise": is_depthwise(w.dims, group),
            "window": win,
        }

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x, w = inputs[0], inputs[1]
        assert x and w and x.dtype
        return [(x.dtype, (x.dims[0], w.dims[1] * node.attrs["group"], *node.attrs["window"].size))]

    def packing(self, node: Node, values: dict[str, Value]) -> Packing | Factors:
        return input_grad_packing(node, values[node.inputs[1]])

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        x, w = node.inputs[:2]
        dy, residual = back.unclamp(node, dy)
        found: list[str | None] = [None] * len(node.inputs)
        if node.input(2) and need[2]:
            found[2] = back.add("ChannelSum", [dy], like=node.inputs[2])
        if node.input(3) and need[3]:
            found[3] = residual
        if need[0] or need[1]:
            win, dy = _reached(node.attrs["window"], back, dy)
            attrs: dict[str, Any] = {k: node.attrs[k] for k in ("group", "strides", "dilations", "depthwise")}
            attrs |= {"pads": win.begins + win.ends, "channel_axis": 0}
            if need[0]:
                found[0] = back.add("Conv", [dy, w], like=x, attrs=attrs)
            if need[1]:
                found[1] = back.add("ConvWeightGrad", [dy, x], like=w, attrs=attrs)
        return found

    def bind(self, node: Node, b: Binder) -> None:
        bind_input_grad(node, b, node.attrs["window"], Epilogue(node.input(2), node.input(3)))


def _reached(win: Window, back: Backward, dy: str) -> tuple[Window, str]:
    """The Conv from Y to X, and dY, without what lies so far beyond the last window that a further one would fit."""
    spans = zip(win.out, win.strides, win.kernel, win.dilations, strict=True)
    full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in spans]
    ends = [f - b - n for f, b, n in zip(full, win.begins, win.size, strict=True)]
    size = tuple(n + min(e, 0) for n, e in zip(win.size, ends, strict=True))
    exact = Window(size, win.kernel, win.strides, win.dilations, win.begins, tuple(max(e, 0) for e in ends), win.out)
    if all(-e < s for e, s in zip(ends, win.strides, strict=True)):
        return exact, dy
    whole = back.graph.values[dy]
    shape = (*whole.dims[:2], *size)
    cut = back.graph.new_value(f"{dy}.reached", whole.dtype, shape, whole.layout)
    back.node("Pad", [dy], [cut], {"begins": (0,) * len(shape), "shape": shape, "value": 0.0})
    return exact, cut
