"""Convolutions of many pictures of few channels, with a lane for each picture (kernels/cpu/batch_lanes.py).

`ToBatch` gives a value (N, C, D1...) the form (N / block, C * block, D1...), channels last, where the innermost `block`
elements are the same channel of neighbouring pictures; `FromBatch` takes it back. In between, operators that treat all
channels alike need not know. The convolutions here have the attributes of Conv, and `group`, the pictures in a block:
they are grouped convolutions whose groups share their weights. Made by the lanes pass.
"""

from __future__ import annotations

from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder, Buffer
from nbcnn.geometry import Window, window
from nbcnn.graph import Node, Value
from nbcnn.kernels import opcodes
from nbcnn.kernels.cpu.lane_tiling import FEW_COLUMNS, FEW_ROWS, GRAD_ROWS, MORE_COLUMNS, MORE_ROWS, best_fit
from nbcnn.kernels.cpu.tiling import lanes, panel_width
from nbcnn.ops.base import Op, register
from nbcnn.ops.conv import conv_packing
from nbcnn.ops.gather import bounds, triple
from nbcnn.ops.packing import Packing, dense
from nbcnn.ops.runs import Run, reduce_runs

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["DIRECT", "FEWER", "POINTS", "BatchConv", "FromBatch", "ToBatch", "line_outputs"]

DIRECT, FEWER = "batch-lanes", "batch-lanes-toom"
"""Algorithms."""
POINTS = 8
"""Where polynomials are evaluated by the second."""
PARTS = 16
"""Shares of the output's lines that are summed apart in a gradient by the weights."""
TASKS = 32
"""Tasks that a convolution should have at the least, so that a few threads get equal shares."""


def line_outputs(taps: int) -> int:
    """Neighbouring outputs that come from POINTS pixels."""
    return POINTS - taps + 1


# --- pictures into lanes, and back


class _Layout(Op):
    def _call(self, node: Node, b: Binder, pictures: Value, blocks: Value, into: int) -> None:
        n, channels, *spatial = pictures.dims
        pixels, block = prod(spatial), blocks.dims[1] // channels
        if pictures.layout == "last" or channels == 1:
            shape = (n, 1, pixels * channels, 0, block)
        else:
            shape = (n, channels, pixels, block, channels * block)
        b.call("batch_layout", b.buffer(node.inputs[0]), b.buffer(node.outputs[0]), shape, into)


@register("ToBatch")
class ToBatch(_Layout):
    """x (N, C, D1...), in any layout -> y (N / block, C * block, D1...), channels last; what fills up is zero."""

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        return [back.add("FromBatch", [dy], like=node.inputs[0])]

    def bind(self, node: Node, b: Binder) -> None:
        self._call(node, b, b.value(node.inputs[0]), b.value(node.outputs[0]), 1)


@register("FromBatch")
class FromBatch(_Layout):
    """The inverse of ToBatch."""

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        return [back.add("ToBatch", [dy], like=node.inputs[0])]

    def bind(self, node: Node, b: Binder) -> None:
        self._call(node, b, b.value(node.outputs[0]), b.value(node.inputs[0]), 0)


# --- convolution


def _window(node: Node, x: Value, kernel: tuple[int, ...]) -> Window:
    return window(x.dims[2:], kernel, node.attrs["strides"], node.attrs["pads"])


def _forward_packing(node: Node, x: Value, w: Value) -> Packing:
    """That of Conv, so that a trained weight can stay in it whatever the batch."""
    return conv_packing(x, w, _window(node, x, w.dims[2:]), 1)


def _forward_spans(win: Window) -> np.ndarray:
    """For each output position on each axis: its first place in x, the first tap that meets x, how many do."""
    found = []
    for size, kernel, stride, begin, out in zip(
        *(triple(v, 1) for v in (win.size, win.kernel, win.strides)),
        triple(win.begins, 0),
        triple(win.out, 1),
        strict=True,
    ):
        for at in range(-begin, out * stride - begin, stride):
            first = min(max(0, -at), kernel)
            found.append((at + first, first, max(min(kernel, size - at) - first, 0)))
    return np.array(found, np.int64)


def _backward_spans(win: Window) -> np.ndarray:
    """For each input position on each axis: the first output position that reads it, by which tap, and how many do;
    the next one is before it, by the tap `stride` further on.
    """
    found = []
    for size, kernel, stride, begin, out in zip(
        *(triple(v, 1) for v in (win.size, win.kernel, win.strides)),
        triple(win.begins, 0),
        triple(win.out, 1),
        strict=True,
    ):
        for at in range(begin, size + begin):
            taps = [k for k in range(at % stride, kernel, stride) if 0 <= (at - k) // stride < out]
            first = taps[0] if taps else 0
            found.append(((at - first) // stride if taps else 0, first, len(taps)))
    return np.array(found, np.int64)


def _bind_conv(
    node: Node,
    b: Binder,
    source: Value,
    target: Value,
    spans: np.ndarray,
    steps: tuple[int, ...],
    conv: tuple[int, ...],
) -> None:
    """Emit the call; conv: extents of the convolution, before its result is pooled."""
    packing: Packing = node.attrs["packing"]
    block, out = node.attrs["group"], triple(target.dims[2:], 1)
    blocks = target.dims[0]
    lines = max(1, blocks * out[0] * out[1] // TASKS)
    b.call(
        "batch_conv",
        *(b.buffer(source.name), b.buffer(node.inputs[1]), b.optional(node.input(2)), b.buffer(target.name)),
        b.scratch(MORE_ROWS * block * b.threads),
        b.constant(spans),
        (*triple(source.dims[2:], 1), packing.depth),
        conv,
        (*out, packing.channels),
        (*triple(node.attrs["kernel"], 1), panel_width(packing.channels, packing.itemsize)),
        steps,
        triple(node.attrs.get("pool", ()), 1),
        (blocks, min(lines, out[0] * out[1]), best_fit(packing.channels, FEW_ROWS, MORE_ROWS)),
        *bounds(node, b.dtype),
    )


def _line_matrix(taps: int) -> np.ndarray:
    """From the taps of a line to their polynomial's values at the points, scaled."""
    finite = [Fraction(p) for p in ("0", "1", "-1", "2", "-2", "1/2", "-1/2")]
    scales = [Fraction(prod(p - q for q in finite if q != p)) for p in finite]
    scales[0] = -scales[0]  # as in the pixels' matrix
    rows = [[float(p**k / scale) for k in range(taps)] for p, scale in zip(finite, scales, strict=True)]
    rows.append([0.0] * (taps - 1) + [1.0])
    return np.array(rows)


def _bind_toom(node: Node, b: Binder, source: Value, target: Value, win: Window) -> None:
    """Emit the calls for a window of stride 1 along lines, by Toom and Cook's algorithm (batch_lanes_toom.py)."""
    packing: Packing = node.attrs["packing"]
    block, (_, kernel_h, kernel_w) = node.attrs["group"], triple(win.kernel, 1)
    width = panel_width(packing.channels, packing.itemsize)
    panels, run = -(-packing.channels // width), packing.depth * width
    outputs, rows = line_outputs(kernel_w), best_fit(packing.channels, FEW_ROWS, MORE_ROWS)
    (_, height, columns), (_, *conv), (_, *out) = (triple(v, 1) for v in (win.size, win.out, target.dims[2:]))
    tiles = -(-conv[1] // outputs)
    evaluated = tiles * POINTS * (height * packing.depth * block + lanes(packing.itemsize))
    products = rows * block * (POINTS + tiles * outputs)
    u = b.scratch(panels * POINTS * kernel_h * run)
    matrix = b.constant(_line_matrix(kernel_w).astype(b.dtype))
    b.call("batch_toom_weights", b.buffer(node.inputs[1]), u, matrix, (panels, kernel_h, kernel_w, run))
    b.call(
        "batch_toom_conv",
        *(b.buffer(source.name), u, b.optional(node.input(2)), b.buffer(target.name)),
        *(b.scratch(evaluated * b.threads), b.scratch(products * b.threads)),
        b.constant(_forward_spans(win)[1 : 1 + conv[0]]),
        (height, columns, packing.depth),
        tuple(conv),
        (*out, packing.channels),
        (kernel_h, width),
        win.begins[-1],
        triple(node.attrs.get("pool", ()), 1)[1:],
        (target.dims[0], outputs, rows, evaluated, products),
        *bounds(node, b.dtype),
    )


@register("BatchConv")
class BatchConv(Op):
    """inputs: X (N / block, C * block, D1...), W (M, C, k1...), B (M) or none -> Y (N / block, M * block, O1...).

    pool: the window of a maximum over neighbours without overlap that is taken of the result, where there is one.
    """

    layout = "last"
    activations = (0,)

    def packing(self, node: Node, values: dict[str, Value]) -> Packing:
        return _forward_packing(node, values[node.inputs[0]], values[node.inputs[1]])

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None and "pool" not in node.attrs
        x, w = node.inputs[:2]
        dy, _ = back.unclamp(node, dy)
        found: list[str | None] = [None] * len(node.inputs)
        attrs = {k: node.attrs[k] for k in ("group", "strides", "pads", "algorithm")}
        if need[0]:
            found[0] = back.add("BatchConvInputGrad", [dy, w], like=x, attrs=attrs)
        if need[1]:
            found[1] = back.add("BatchConvWeightGrad", [x, dy], like=w, attrs=attrs)
        if node.input(2) and need[2]:
            found[2] = back.add("BatchChannelSum", [dy], like=node.inputs[2], attrs={"group": attrs["group"]})
        return found

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        win = _window(node, x, node.attrs["kernel"])
        if node.attrs["algorithm"] == FEWER:
            _bind_toom(node, b, x, y, win)
        else:
            _bind_conv(node, b, x, y, _forward_spans(win), (1,) * 6, triple(win.out, 1))


@register("BatchConvInputGrad")
class BatchConvInputGrad(Op):
    """inputs: dY, W -> dX: every input position gathers from the output positions that read it."""

    layout = "last"
    activations = (0,)

    def packing(self, node: Node, values: dict[str, Value]) -> Packing:
        w = values[node.inputs[1]]
        assert w.dtype is not None
        return dense(1, w.dims[0], w.dims[1], w.dims[2:], w.dtype.itemsize).transposed()

    def bind(self, node: Node, b: Binder) -> None:
        dy, dx = b.value(node.inputs[0]), b.value(node.outputs[0])
        win = _window(node, dx, node.attrs["kernel"])
        steps = (-1, -1, -1, *triple(win.strides, 1))
        _bind_conv(node, b, dy, dx, _backward_spans(win), steps, triple(win.size, 1))


@register("BatchConvWeightGrad")
class BatchConvWeightGrad(Op):
    """inputs: X, dY -> dW, in the forward packing."""

    layout = "last"
    activations = (0, 1)

    def packing(self, node: Node, values: dict[str, Value]) -> Packing:
        return _forward_packing(node, values[node.inputs[0]], values[node.outputs[0]])

    def bind(self, node: Node, b: Binder) -> None:
        x, dy = b.value(node.inputs[0]), b.value(node.inputs[1])
        packing: Packing = node.attrs["packing"]
        win = _window(node, x, node.attrs["kernel"])
        source, size = _pad(b, x, win)
        kernel = triple(win.kernel, 1)
        columns = best_fit(packing.channels, FEW_COLUMNS, MORE_COLUMNS)
        tiles = -(-kernel[2] * packing.depth // GRAD_ROWS) * -(-packing.channels // columns)
        slot = kernel[0] * kernel[1] * tiles * GRAD_ROWS * columns * lanes(packing.itemsize)
        b.call(
            "batch_weight_grad",
            *(source, b.buffer(dy.name), b.buffer(node.outputs[0])),
            b.scratch(slot * b.threads),
            b.scratch(PARTS * packing.size),
            (*size, packing.depth),
            (dy.dims[0], *triple(win.out, 1), packing.channels),
            (*kernel, panel_width(packing.channels, packing.itemsize)),
            triple(win.strides, 1),
            (PARTS, slot, columns),
        )


def _pad(b: Binder, x: Value, win: Window) -> tuple[Buffer, tuple[int, ...]]:
    """The pictures with their padding, in scratch memory (themselves where there is none), and their extents."""
    size = triple(win.size, 1)
    wide = triple([n + p + q for n, p, q in zip(win.size, win.begins, win.ends, strict=True)], 1)
    if wide == size:
        return b.buffer(x.name), size
    copy = b.scratch(x.dims[0] * prod(wide) * x.dims[1])
    b.call("pad_channels_last", b.buffer(x.name), copy, (x.dims[0], *size, x.dims[1]), triple(win.begins, 0), wide, 0)
    return copy, wide


@register("BatchChannelSum")
class BatchChannelSum(Op):
    """inputs: dY (N / block, C * block, ...) -> dB (C): the gradient of a bias."""

    layout = "last"

    def bind(self, node: Node, b: Binder) -> None:
        dy, block = b.value(node.inputs[0]), node.attrs["group"]
        rows = dy.size // dy.dims[1]
        left = [Run(rows, True), Run(dy.dims[1] // block, False), Run(block, True)]
        reduce_runs(b, opcodes.SUM, b.buffer(dy.name), b.buffer(node.outputs[0]), left, 1.0)
