"""Work on quantized bytes, made by the fuse_quantized pass from what stood between DequantizeLinear and QuantizeLinear.

All values are unsigned bytes. Attributes low and high: what a result is held between, in its own steps, before its zero
point is added: an activation, and the range of a byte.
"""

from __future__ import annotations

from math import prod

import numpy as np

from nbcnn.binder import Binder
from nbcnn.graph import Node
from nbcnn.ops.base import register
from nbcnn.ops.packing import Conversion
from nbcnn.ops.pool import lines_of_bytes

__all__ = ["BYTE"]

BYTE = np.dtype(np.uint8)


@register("QuantizedAdd")
class QuantizedAdd(Conversion):
    """inputs: A, B, of one shape, and the scales of A, B and Y -> Y. Attributes: zeros, the zero points of these."""

    activations = (0, 1)

    def bind(self, node: Node, b: Binder) -> None:
        a, other, *scales = (b.buffer(name) for name in node.inputs)
        attrs = node.attrs
        b.call(
            "quantized_add", a, other, b.buffer(node.outputs[0]), *scales, attrs["zeros"], attrs["low"], attrs["high"]
        )


@register("QuantizedMean")
class QuantizedMean(Conversion):
    """inputs: X (N, C, D1...), the scales of X and Y -> Y (N, C, 1...), the mean of each channel. Attributes: zeros."""

    layout = "last"
    activations = (0,)

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        source, *scales = (b.buffer(name) for name in node.inputs)
        shape = (x.dims[0], prod(x.dims[2:]), x.dims[1])
        attrs, sums = node.attrs, b.scratch(y.size, np.int32)
        b.call(
            "quantized_mean",
            source,
            b.buffer(y.name),
            sums,
            *scales,
            shape,
            attrs["zeros"],
            attrs["low"],
            attrs["high"],
        )


@register("QuantizedAveragePool")
class QuantizedAveragePool(Conversion):
    """inputs: X (N, C, D1...), the scales of X and Y -> Y (N, C, O1...), the mean of each window. Attributes: window,
    include_pad, zeros.
    """

    layout = "last"
    activations = (0,)

    def bind(self, node: Node, b: Binder) -> None:
        x, attrs = b.value(node.inputs[0]), node.attrs
        source, *scales = (b.buffer(name) for name in node.inputs)
        sums = np.dtype(np.uint16 if attrs["window"].taps * 255 <= np.iinfo(np.uint16).max else np.int32)
        lines, *places = lines_of_bytes(b, x, attrs["window"], attrs["include_pad"], sums)
        held = attrs["zeros"], attrs["low"], attrs["high"]
        b.call("mean_pool_bytes", source, b.buffer(node.outputs[0]), lines, *scales, *places, *held)


@register("RequantizeTable")
class RequantizeTable(Conversion):
    """inputs: two scales -> what becomes of each byte of the first quantization in the second, (256,). Attributes:
    zeros, low, high.
    """

    def bind(self, node: Node, b: Binder) -> None:
        attrs, buffers = node.attrs, [b.buffer(name) for name in (*node.inputs, *node.outputs)]
        b.call("requantize_table", *buffers, attrs["zeros"], attrs["low"], attrs["high"])


@register("LookUp")
class LookUp(Conversion):
    """inputs: X (bytes), a table (256,) -> table[X]."""

    activations = (0,)

    def bind(self, node: Node, b: Binder) -> None:
        x, table = (b.buffer(name) for name in node.inputs)
        b.call("look_up", x, b.buffer(node.outputs[0]), table)
