"""Conv (ONNX opsets 1, 11, 22): cross-correlation over 1 to 3 spatial dimensions, and its two gradients.

Before they are bound, the pack pass gives the nodes here two more attributes: `packing`, how the kernel wants the
weights, and `kernel`, the spatial shape that packed weights no longer show.

A bias, a residual of the output's shape (input 3, put there by the fuse pass) and a clamp are applied while the
output is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

from nbcnn.binder import Binder, Buffer
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.geometry import Window, gather_phases, window
from nbcnn.graph import Node, Value
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.depthwise import bind_depthwise, depthwise_weight_grad
from nbcnn.ops.gather import Epilogue, Gather, triple, weight_grad, window_taps
from nbcnn.ops.packing import Packing, dense, depthwise, rows
from nbcnn.ops.winograd import POINTS, Factors, Tiles

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = [
    "TRANSPOSED",
    "Conv",
    "bind_input_grad",
    "direct_algorithm",
    "input_grad_packing",
    "is_depthwise",
]

FEW_CHANNELS = 8
"""Up to so many input channels, a line of the kernel is read as one run from a padded copy of the picture."""


def _window(node: Node, x: Value, w: Value) -> Window:
    return window(x.dims[2:], w.dims[2:], node.attrs["strides"], node.attrs["pads"], node.attrs["dilations"])


def reads_lines(win: Window, depth: int, group: int) -> bool:
    """Whether this layer is computed from a padded copy, a kernel line at a time."""
    return depth <= FEW_CHANNELS and group == 1 and win.kernel[-1] > 1 and win.dilations[-1] == 1


TRANSPOSED = ("ConvInputGrad", "ConvTranspose")
"""What goes from a convolution's output to its input."""


def is_depthwise(w: tuple[int, ...], group: int) -> bool:
    """Whether every channel has one filter of its own."""
    return 1 < group == w[0] and w[1] == 1


def _padded(win: Window) -> Window:
    """The same window over a picture whose padding is part of it."""
    size = tuple(n + b + max(e, 0) for n, b, e in zip(win.size, win.begins, win.ends, strict=True))
    none = (0,) * len(size)
    return Window(size, win.kernel, win.strides, win.dilations, none, none, win.out)


def direct_algorithm(node: Node, values: Mapping[str, Value]) -> str:
    """What the direct sum of products of a Conv or one of its gradients is called, by the shape that decides on it."""
    gradient = node.op == "ConvWeightGrad"
    w = values[node.outputs[0] if gradient else node.inputs[1]]
    if node.attrs["depthwise"]:
        return "depthwise"
    if w.dims[2:] == (1,) * len(w.dims[2:]):
        return "pointwise"
    if node.attrs.get("adds_windows"):
        return "overlap-add"
    x = values[node.inputs[0]]
    if node.op not in TRANSPOSED and reads_lines(_window(node, x, w), w.dims[1], node.attrs["group"]):
        return "few-channel"
    return "grouped" if node.attrs["group"] > 1 else "implicit-gemm"


def conv_packing(x: Value, w: Value, win: Window, group: int) -> Packing:
    """How the forward kernel wants the weights."""
    assert w.dtype is not None
    channels, depth = w.dims[0] // group, w.dims[1]
    if is_depthwise(w.dims, group):
        return depthwise(w.dims[0], win.kernel, w.dtype.itemsize)
    if reads_lines(win, depth, group) and (x.kept is None or depth % 2):
        return rows(channels, depth, win.kernel, w.dtype.itemsize)
    return dense(group, channels, depth, win.kernel, w.dtype.itemsize)


def _as_factors(node: Node, packing: Packing, flip: bool) -> Packing | Factors:
    """What the chosen algorithm reads instead of panels."""
    points = POINTS.get(node.attrs.get("algorithm", ""))
    return packing if points is None else Factors(packing, points, flip)


def _tiles(node: Node, x: Value, y: Value, pads: Sequence[int]) -> Tiles:
    """The tiles of a convolution from x to y by Winograd's algorithm."""
    (images, depth, height, width), (_, channels, out_height, out_width) = x.dims, y.dims
    return Tiles(
        points=POINTS[node.attrs["algorithm"]],
        images=images,
        source=(height, width, depth, depth),
        target=(out_height, out_width, y.pitch, channels),
        pads=(pads[0], pads[1]),
    )


@register("Conv")
class Conv(Op):
    """inputs: X (N, C, D1...), W (M, C/group, k1...), B (M) or none -> Y (N, M, O1...)."""

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
            raise UnsupportedError(f"{node.label}: Conv needs 1 to 3 spatial dimensions, the input has shape {x.dims}")
        group = int(node.attrs.get("group", 1))
        if len(w.dims) != rank + 2 or x.dims[1] != w.dims[1] * group or w.dims[0] % group:
            raise ModelError(f"{node.label}: input {x.dims} does not fit weights {w.dims} with group={group}")
        kernel = tuple(node.attrs.get("kernel_shape", w.dims[2:]))
        if kernel != w.dims[2:]:
            raise ModelError(f"{node.label}: kernel_shape {kernel} is not that of the weights {w.dims}")
        attrs = node.attrs
        win = window(
            x.dims[2:],
            kernel,
            attrs.get("strides"),
            attrs.get("pads"),
            attrs.get("dilations"),
            attrs.get("auto_pad", "NOTSET"),
        )
        node.attrs = {
            "group": group,
            "strides": win.strides,
            "pads": win.begins + win.ends,
            "dilations": win.dilations,
            "channel_axis": 0,
            "depthwise": is_depthwise(w.dims, group),
        }

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x, w = inputs[0], inputs[1]
        assert x and w and x.dtype
        return [(x.dtype, (x.dims[0], w.dims[0], *_window(node, x, w).out))]

    def packing(self, node: Node, values: dict[str, Value]) -> Packing | Factors:
        x, w = values[node.inputs[0]], values[node.inputs[1]]
        return _as_factors(node, conv_packing(x, w, _window(node, x, w), node.attrs["group"]), flip=False)

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        x, w = node.inputs[:2]
        dy, residual = back.unclamp(node, dy)
        found: list[str | None] = [None] * len(node.inputs)
        attrs = {k: node.attrs[k] for k in ("group", "strides", "pads", "dilations", "depthwise")}
        if need[0]:
            found[0] = back.add("ConvInputGrad", [dy, w], like=x, attrs=attrs)
        if need[1]:
            found[1] = back.add("ConvWeightGrad", [x, dy], like=w, attrs=attrs)
        if node.input(2) and need[2]:
            found[2] = back.add("ChannelSum", [dy], like=node.inputs[2])
        if node.input(3) and need[3]:
            found[3] = residual
        return found

    def bind(self, node: Node, b: Binder) -> None:
        x, w = b.value(node.inputs[0]), b.value(node.inputs[1])
        win = window(
            x.dims[2:], node.attrs["kernel"], node.attrs["strides"], node.attrs["pads"], node.attrs["dilations"]
        )
        packing: Packing | Factors = node.attrs["packing"]
        source, pitch = b.buffer(x.name), x.dims[1]
        residual = node.input(3)
        if residual:
            b.in_place(node.outputs[0], residual)
        if isinstance(packing, Factors):
            epilogue = Epilogue(node.input(2), residual)
            _tiles(node, x, b.value(node.outputs[0]), win.begins).bind(
                b, node, source, b.buffer(w.name), b.buffer(node.outputs[0]), epilogue
            )
            return
        if packing.inner > 1:
            source, win = _pad(b, source, x, win), _padded(win)
        kernel = win.kernel if packing.inner == 1 else (*win.kernel[:-1], 1)
        gather = Gather(
            images=x.dims[0],
            grid=win.out,
            extent=win.size,
            pitch=pitch,
            step=win.strides,
            target=win.out,
            out_pitch=b.value(node.outputs[0]).pitch,
            first=(0,) * len(win.out),
            jump=(1,) * len(win.out),
            taps=window_taps(kernel, win.dilations, win.begins),
        )
        bind = bind_depthwise if node.attrs["depthwise"] else Gather.bind
        y, epilogue = b.buffer(node.outputs[0]), Epilogue(node.input(2), residual)
        bind(gather, b, node, source, b.buffer(w.name), y, packing, epilogue)


def _pad(b: Binder, source: Buffer, x: Value, win: Window) -> Buffer:
    """The picture with its padding, channels last, in scratch memory (the picture itself where it is so already)."""
    wide, planes = _padded(win), x.layout == "plain" and x.dims[1] > 1
    if wide.size == win.size and not planes:
        return source
    copy = b.scratch(x.dims[0] * prod(wide.size) * x.dims[1])
    b.call(
        "pad_channels_last",
        source,
        copy,
        (x.dims[0], *triple(win.size, 1), x.dims[1]),
        triple(win.begins, 0),
        triple(wide.size, 1),
        int(planes),
    )
    return copy


def input_grad_packing(node: Node, w: Value) -> Packing | Factors:
    """How the kernels want a convolution's weights for its gradient by the input."""
    assert w.dtype is not None
    group, kernel, itemsize = node.attrs["group"], w.dims[2:], w.dtype.itemsize
    if node.attrs["depthwise"]:
        return depthwise(group, kernel, itemsize)
    return _as_factors(node, dense(group, w.dims[0] // group, w.dims[1], kernel, itemsize).transposed(), flip=True)


def bind_input_grad(node: Node, b: Binder, win: Window, epilogue: Epilogue) -> None:
    """Emit the calls that compute dX, the node's output, of the convolution with this window from dY and W."""
    dy, dx = b.value(node.inputs[0]), b.value(node.outputs[0])
    if epilogue.residual:
        b.in_place(dx.name, epilogue.residual)
    source, w, target = b.buffer(dy.name), b.buffer(node.inputs[1]), b.buffer(dx.name)
    if isinstance(node.attrs["packing"], Factors):
        # Turned round, each tap reaches as far back as it reached ahead: padding of k - 1 becomes none.
        pads = [k - 1 - p for k, p in zip(win.kernel, win.begins, strict=True)]
        _tiles(node, dy, dx, pads).bind(b, node, source, w, target, epilogue)
        return
    for phase in gather_phases(win):
        gather = Gather(
            images=dy.dims[0],
            grid=phase.grid,
            extent=win.out,
            pitch=dy.dims[1],
            step=(1,) * len(win.out),
            target=win.size,
            out_pitch=dx.dims[1],
            first=phase.first,
            jump=win.strides,
            taps=phase.taps,
        )
        bind = bind_depthwise if node.attrs["depthwise"] else Gather.bind
        bind(gather, b, node, source, w, target, node.attrs["packing"], epilogue)


@register("ConvInputGrad")
class ConvInputGrad(Op):
    """inputs: dY (N, M, O1...), W; -> dX: every input position gathers from the output positions that read it."""

    layout = "last"
    activations = (0, 2)
    halves = 1

    def packing(self, node: Node, values: dict[str, Value]) -> Packing | Factors:
        return input_grad_packing(node, values[node.inputs[1]])

    def bind(self, node: Node, b: Binder) -> None:
        attrs, size = node.attrs, b.value(node.outputs[0]).dims[2:]
        win = window(size, attrs["kernel"], attrs["strides"], attrs["pads"], attrs["dilations"])
        bind_input_grad(node, b, win, Epilogue("", node.input(2)))


@register("ConvWeightGrad")
class ConvWeightGrad(Op):
    """inputs: X, dY -> dW, in the forward packing."""

    layout = "last"
    activations = (0, 1)

    def packing(self, node: Node, values: dict[str, Value]) -> Packing:
        x, dw = values[node.inputs[0]], values[node.outputs[0]]
        return conv_packing(x, dw, _window(node, x, dw), node.attrs["group"])

    def bind(self, node: Node, b: Binder) -> None:
        x = b.value(node.inputs[0])
        win = window(
            x.dims[2:], node.attrs["kernel"], node.attrs["strides"], node.attrs["pads"], node.attrs["dilations"]
        )
        packing: Packing = node.attrs["packing"]
        source = b.buffer(x.name)
        if packing.inner > 1:
            source, win = _pad(b, source, x, win), _padded(win)
        dy, dw = b.buffer(node.inputs[1]), b.buffer(node.outputs[0])
        if node.attrs.get("algorithm") in POINTS:
            _tiles(node, x, b.value(node.inputs[1]), win.begins).bind_weight_grad(b, source, dy, dw)
        elif node.attrs["depthwise"]:
            depthwise_weight_grad(b, source, dy, dw, packing, win, x.dims[0])
        else:
            weight_grad(b, source, dy, dw, packing, win, x.dims[0], x.dims[1])
