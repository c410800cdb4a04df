"""IntegerConv, IntegerDepthwise and IntegerMatMul: products of bytes. Made by the integer_products pass.

inputs: X, packed weights, offsets, edge, scales or none -> Y: int32, where there are no scales; quantized bytes; or
float32.
Attributes: packing, parts; flip, 128 where X is of signed bytes; zero, low and high, for quantized results: the zero
point, and what they are held between before it is added.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from nbcnn.binder import Binder, Buffer
from nbcnn.geometry import Window, window
from nbcnn.graph import Node
from nbcnn.kernels.cpu.pixels import PIXELS
from nbcnn.kernels.cpu.tiling import PANEL_VECS, ROWS, lanes
from nbcnn.ops.base import register
from nbcnn.ops.depthwise import TASK_LINES
from nbcnn.ops.gather import BLOCK, TASKS, Gather, triple, whole_lines, window_taps
from nbcnn.ops.packing import Conversion, Packing
from nbcnn.ops.requantize import SUM_BYTES, flip_of, padded_channels

__all__ = ["SLACK"]

SLACK = 64
"""Bytes behind a copy of x, which may be read and count nothing."""


def _pad(node: Node, b: Binder, win: Window, images: int, channels: int, planes: bool = False) -> tuple[Buffer, Window]:
    """Copy x, its pixels' size in `win`, to bytes with the padding around them, which the processor takes unsigned; the
    copy and the window over it. planes: whether x lies in ONNX order.
    """
    wide = tuple(n + begin + max(end, 0) for n, begin, end in zip(win.size, win.begins, win.ends, strict=True))
    x, flip = b.value(node.inputs[0]), flip_of(node, b)
    copy = b.scratch(images * prod(wide) * channels + SLACK, x.dtype if b.backend == "cuda" else np.uint8)
    size, begins = (images, *triple(win.size, 1), channels), triple(win.begins, 0)
    edge = b.buffer(node.inputs[3])
    b.call("pad_integers", b.buffer(x.name), copy, edge, size, begins, triple(wide, 1), flip, int(planes))
    none = (0,) * len(wide)
    return copy, replace(win, size=wide, begins=none, ends=none)


def _scales(node: Node, b: Binder) -> Buffer:
    """The scales of the sums; ones, which are not read, where the sums are the result."""
    if node.input(4):
        return b.buffer(node.inputs[4])
    packing: Packing = node.attrs["packing"]
    return b.constant(np.ones(packing.groups * padded_channels(packing), np.float32))


def _bind(node: Node, b: Binder, x: Buffer, gather: Gather, apart: tuple[int, int]) -> None:
    """Emit the call of integer_gather. apart: elements of x and of y from group to group."""
    packing: Packing = node.attrs["packing"]
    pixels = gather.images * prod(gather.grid)
    block = min(BLOCK, -(-pixels // ROWS) * ROWS)
    numbered = [
        (move, number + part * packing.taps) for part in range(node.attrs["parts"]) for move, number in gather.taps
    ]
    gather = replace(gather, taps=numbered)
    slot = whole_lines((len(numbered) + 5) * block + 2 * 16)
    w, offsets, edge = (b.buffer(name) for name in node.inputs[1:4])
    grid, source, target, _ = gather.grids(packing)
    b.call(
        "integer_gather",
        *(x, w, offsets, edge, _scales(node, b), b.buffer(node.outputs[0]), gather.tap_table(b)),
        b.scratch(slot * b.threads, np.int64),
        b.scratch(ROWS * PANEL_VECS * lanes(SUM_BYTES) * b.threads, np.int32),
        *(grid, source, target, (packing.groups, packing.channels, *apart)),
        (block, gather.panels_a_task(packing, pixels, block), int(gather.stays_inside()), slot),
        *(node.attrs[name] for name in ("zero", "low", "high")),
    )


@register("IntegerConv")
class IntegerConv(Conversion):
    """Further attributes: kernel, strides, pads, dilations."""

    layout = "last"
    activations = (0,)

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        attrs, packing = node.attrs, node.attrs["packing"]
        win = window(x.dims[2:], attrs["kernel"], attrs["strides"], attrs["pads"], attrs["dilations"])
        images, channels = x.dims[:2]
        source = b.buffer(x.name)
        if flip_of(node, b) or packing.inner > 1 or packing.run % 4:
            source, win = _pad(node, b, win, images, channels, planes=x.layout == "plain")
        kernel = win.kernel if packing.inner == 1 else (*win.kernel[:-1], 1)
        whole = (0,) * len(kernel)
        gather = Gather(
            images=images,
            grid=win.out,
            extent=win.size,
            pitch=channels,
            step=win.strides,
            target=win.out,
            out_pitch=y.dims[1],
            first=whole,
            jump=(1,) * len(kernel),
            taps=window_taps(kernel, win.dilations, win.begins),
        )
        _bind(node, b, source, gather, (packing.run, packing.channels))


@register("IntegerDepthwise")
class IntegerDepthwise(Conversion):
    """A filter for each channel, over one or two spatial dimensions. Attributes as IntegerConv's, and sets, of
    weights.
    """

    layout = "last"
    activations = (0,)

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        attrs, parts = node.attrs, node.attrs["parts"]
        win = window(x.dims[2:], attrs["kernel"], attrs["strides"], attrs["pads"], attrs["dilations"])
        images, channels = x.dims[:2]
        source = b.buffer(x.name)
        if flip_of(node, b):
            source, win = _pad(node, b, win, images, channels)
        kernel, size, steps = (triple(v, 1)[1:] for v in (win.kernel, win.size, win.strides))
        dilations, before, out = triple(win.dilations, 1)[1:], triple(win.begins, 0)[1:], triple(win.out, 1)[1:]
        wide = max(before[1] + size[1], (out[1] - 1) * steps[1] + (kernel[1] - 1) * dilations[1] + 1)
        quads, registers = -(-kernel[0] // 4), -(-channels // lanes(SUM_BYTES))
        lines = min(out[0], TASK_LINES)
        blocks = max(1, min(registers, registers * images * -(-out[0] // lines) // TASKS))
        slot = -(-(quads * wide + PIXELS) * lanes(SUM_BYTES) // 16) * 16
        w, offsets, edge = (b.buffer(name) for name in node.inputs[1:4])
        b.call(
            "integer_depthwise",
            *(source, w, offsets, edge, _scales(node, b), b.buffer(y.name)),
            b.scratch(slot * b.threads, np.int32),
            *((*kernel, *dilations), (quads, parts, attrs["sets"]), (*size, *steps), (images, *out, channels), before),
            (lines, blocks, wide, slot),
            *(attrs[name] for name in ("zero", "low", "high")),
        )


@register("IntegerMatMul")
class IntegerMatMul(Conversion):
    """A stack of matrices A (rows, depth) by as many of W, or all rows of A by one."""

    layout = "plain"
    activations = (0,)

    def bind(self, node: Node, b: Binder) -> None:
        x, packing = b.value(node.inputs[0]), node.attrs["packing"]
        count, depth, channels = packing.groups, packing.depth, packing.channels
        rows = x.size // (count * depth)
        source = b.buffer(x.name)
        if flip_of(node, b) or depth % 4:
            all_rows = (rows * count,)
            source, _ = _pad(node, b, Window(all_rows, (1,), (1,), (1,), (0,), (0,), all_rows), 1, depth)
        gather = Gather(1, (rows,), (rows,), depth, (1,), (rows,), channels, (0,), (1,), [((0,), 0)])
        _bind(node, b, source, gather, (rows * depth, rows * channels))
