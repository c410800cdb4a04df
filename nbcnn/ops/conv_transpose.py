"""ConvTranspose (ONNX opsets 1, 11, 22): the gradient of a convolution by its input, as a layer.

Seen from its output, it is a Conv that goes from Y to X, with the same weights. So it is computed as that Conv's
gradient by the input is, and its own gradients are that Conv itself, and that Conv's gradient by the weights. With few
output channels, which would leave most of a register empty, it is one product of every pixel with the weights of all
taps, and the sum of the windows that this makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from nbcnn.binder import Binder
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.geometry import Window, transposed_window
from nbcnn.graph import Node, Value
from nbcnn.kernels.cpu.tiling import lanes
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.conv import bind_input_grad, input_grad_packing, is_depthwise
from nbcnn.ops.gather import Epilogue, bind_product, bounds, triple
from nbcnn.ops.packing import Packing, matrix
from nbcnn.ops.winograd import Factors

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["ConvTranspose"]

ADDITION = 45
"""Products that take as long as the addition of an element of a window."""


@register("ConvTranspose")
class ConvTranspose(Op):
    """inputs: X (N, C, D1...), W (C, M/group, k1...), B (M) or none, a residual of Y's shape or none (put there by the
    fuse pass) -> Y (N, M, O1...). Normalized: `window`, the Window of the Conv from Y to X; adds_windows: whether each
    pixel is multiplied by all weights at once.
    """

    layout = "last"
    activations = (0, 3)
    since = 1
    trainable = (1, 2)
    halves = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        x, w = facts.value(node, 0), facts.value(node, 1)
        facts.need_floats(node)
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
            "pads": win.begins + win.ends,
            "dilations": win.dilations,
            "channel_axis": 1,
            "depthwise": is_depthwise(w.dims, group),
            "window": win,
            "adds_windows": group == 1 and _few_channels(w),
        }

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x, w = inputs[0], inputs[1]
        assert x and w and x.dtype
        return [(x.dtype, (x.dims[0], w.dims[1] * node.attrs["group"], *node.attrs["window"].size))]

    def packing(self, node: Node, values: dict[str, Value]) -> Packing | Factors:
        w = values[node.inputs[1]]
        if node.attrs["adds_windows"]:
            assert w.dtype
            return matrix(prod(w.dims[1:]), w.dims[0], output_first=False, itemsize=w.dtype.itemsize)
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
        epilogue = Epilogue(node.input(2), node.input(3))
        if node.attrs["adds_windows"]:
            _add_windows(node, b, epilogue)
        else:
            bind_input_grad(node, b, node.attrs["window"], epilogue)


def _few_channels(w: Value) -> bool:
    """Whether registers are so empty, where each tap has its own, that adding up windows takes less time."""
    assert w.dtype
    width, (depth, channels), taps = lanes(w.dtype.itemsize), w.dims[:2], prod(w.dims[2:])
    saved = taps * -(-channels // width) - -(-channels * taps // width)
    return saved * width * depth > ADDITION * channels * taps


def _add_windows(node: Node, b: Binder, epilogue: Epilogue) -> None:
    """Emit the product of every pixel with all weights, and the sum of the windows that it makes."""
    x, y, win = b.value(node.inputs[0]), b.value(node.outputs[0]), node.attrs["window"]
    packing: Packing = node.attrs["packing"]
    if not y.size:
        return
    if epilogue.residual:
        b.in_place(y.name, epilogue.residual)
    rows = x.dims[0] * prod(win.out)
    columns = b.scratch(rows * packing.channels)
    plain = Node("Gemm", [], [], {})  # what is clamped is the sum
    w = b.buffer(node.inputs[1])
    bind_product(b, plain, b.buffer(x.name), w, columns, rows, packing, Epilogue(), packing.channels)
    b.call(
        "overlap_add",
        *(columns, b.optional(epilogue.bias), b.optional(epilogue.residual), b.buffer(y.name)),
        *(y.dims[1], x.dims[0], triple(win.out, 1), triple(win.size, 1)),
        (*triple(win.kernel, 1), *triple(win.strides, 1), *triple(win.dilations, 1), *triple(win.begins, 0)),
        *bounds(node, b.dtype),
    )


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
