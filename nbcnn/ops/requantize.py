"""What the integer kernels read beside x, as nodes of the graph: packed weights, offsets and scales.

They rest on weights alone as a rule, and then are computed once; where a zero point is computed from the input, the
offsets are made anew at every run.
"""

from __future__ import annotations

from nbcnn.binder import Binder
from nbcnn.graph import Node
from nbcnn.kernels.cpu.tiling import panel_width
from nbcnn.ops.base import register
from nbcnn.ops.packing import Conversion, Packing

__all__ = ["SUM_BYTES", "depthwise_bytes", "flip_of", "padded_channels", "panel_bytes", "quads"]

SUM_BYTES = 4
"""Bytes of a sum: integer packings have the panels of 32-bit numbers."""


def quads(packing: Packing) -> int:
    """Steps of four that a run takes."""
    return -(-packing.run // 4)


def flip_of(node: Node, b: Binder) -> int:
    """What makes X's bytes unsigned ones: 128 for signed ones, but 0 on a GPU, which multiplies both as they are."""
    return 0 if b.backend == "cuda" else int(node.attrs["flip"])


def padded_channels(packing: Packing) -> int:
    """Channels of a group, filled up to whole panels."""
    width = panel_width(packing.channels, SUM_BYTES)
    return -(-packing.channels // width) * width


def depthwise_bytes(packing: Packing, lines: tuple[int, int], parts: int, sets: int) -> int:
    """Bytes of the packed weights of a depthwise convolution, whose kernel has this height and width."""
    return padded_channels(packing) * sets * parts * -(-lines[0] // 4) * lines[1] * 4


def panel_bytes(packing: Packing, parts: int) -> int:
    """Bytes of packed weights."""
    return packing.groups * padded_channels(packing) * packing.taps * parts * quads(packing) * 4


@register("IntegerWeights")
class IntegerWeights(Conversion):
    """inputs: W (bytes, in ONNX order), its zero points or none -> panels (int8), their sums (int32). Attributes:
    packing, parts; lines, the height and width of the kernel, where every channel has a filter of its own, else none;
    sets, of such weights.
    """

    def bind(self, node: Node, b: Binder) -> None:
        packing: Packing = node.attrs["packing"]
        w = b.value(node.inputs[0])
        zero = b.buffer(node.inputs[1]) if node.input(1) else b.empty(w.dtype)
        panels, sums = (b.buffer(name) for name in node.outputs)
        dims, order, parts = packing.dims, packing.order, node.attrs["parts"]
        if node.attrs["lines"]:
            dims = (packing.channels, *node.attrs["lines"])
            b.call(
                "pack_depthwise_integers",
                b.buffer(w.name),
                zero,
                panels,
                sums,
                dims,
                node.attrs["parts"],
                node.attrs["sets"],
            )
            return
        b.call("pack_integers", b.buffer(w.name), zero, panels, sums, dims, order, parts)


@register("IntegerOffsets")
class IntegerOffsets(Conversion):
    """inputs: sums, the zero point of X or none, bias (int32) or none -> offsets (int32), edge (uint8). Attributes:
    packing; flip, 128 where X is of signed bytes; dtype, of X.
    """

    def bind(self, node: Node, b: Binder) -> None:
        packing: Packing = node.attrs["packing"]
        zero = b.buffer(node.inputs[1]) if node.inputs[1] else b.empty(node.attrs["dtype"])
        bias = b.buffer(node.inputs[2]) if node.inputs[2] else b.empty("int32")
        sums, offsets, edge = (b.buffer(name) for name in (node.inputs[0], *node.outputs))
        widths = (packing.channels, padded_channels(packing))
        b.call("integer_offsets", sums, zero, bias, offsets, edge, flip_of(node, b), widths)


@register("IntegerScales")
class IntegerScales(Conversion):
    """inputs: the scales of X, W and Y -> X's times W's by Y's (float32) for padded channels. Attributes: packing."""

    def bind(self, node: Node, b: Binder) -> None:
        packing: Packing = node.attrs["packing"]
        x, w, y = (b.buffer(name) for name in node.inputs)
        b.call("integer_scales", x, w, y, b.buffer(node.outputs[0]), (packing.channels, padded_channels(packing)))
