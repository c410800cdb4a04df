"""DeformConv (ONNX opsets 19, 22): a convolution each of whose taps is moved, by as much as the network says.

It becomes DeformColumns, which reads what every tap meets (see sample.py), and a pointwise Conv of that
(passes/decompose.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import TYPE_CHECKING

from nbcnn.binder import Binder
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.geometry import Window, window
from nbcnn.graph import Node, Value
from nbcnn.kernels.opcodes import LINEAR, ZEROS
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.elementwise import need_float
from nbcnn.ops.gather import triple
from nbcnn.ops.sample import Sampling
from nbcnn.ops.strided import fill, strides

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward


@register("DeformConv")
class DeformConv(Op):
    """inputs: X (N, C, D1...), W (M, C/group, k1...), offset (N, offset_group * taps * rank, O1...), B (M) or none,
    mask (N, offset_group * taps, O1...) or none -> Y (N, M, O1...).

    Normalized: `window`, group, offset_group. Samples outside of the picture are zero. Dai et al., "Deformable
    Convolutional Networks", 2017; with a mask, Zhu et al., "Deformable ConvNets v2", 2018.
    """

    since = 19
    rewritten = True
    trainable = (1, 3)

    def normalize(self, node: Node, facts: Facts) -> None:
        x, w, offset = (facts.value(node, i) for i in range(3))
        need_float(node, x)
        rank, attrs = len(x.dims) - 2, node.attrs
        if not 1 <= rank <= 3:
            raise UnsupportedError(f"{node.label}: 1 to 3 spatial dimensions are supported, the input has {x.dims}")
        group, parts = int(attrs.get("group", 1)), int(attrs.get("offset_group", 1))
        if len(w.dims) != rank + 2 or x.dims[1] != w.dims[1] * group or w.dims[0] % group:
            raise ModelError(f"{node.label}: input {x.dims} does not fit weights {w.dims} with group={group}")
        if tuple(attrs.get("kernel_shape", w.dims[2:])) != w.dims[2:]:
            raise ModelError(f"{node.label}: kernel_shape is not that of the weights {w.dims}")
        win = window(x.dims[2:], w.dims[2:], attrs.get("strides"), attrs.get("pads"), attrs.get("dilations"))
        if parts < 1 or x.dims[1] % parts or offset.dims != (x.dims[0], parts * win.taps * rank, *win.out):
            raise ModelError(
                f"{node.label}: offset {offset.dims} does not fit offset_group={parts} and an output of {win.out}"
            )
        if facts.has(node, 4) and facts.value(node, 4).dims != (x.dims[0], parts * win.taps, *win.out):
            raise ModelError(f"{node.label}: mask {facts.value(node, 4).dims} does not fit offset {offset.dims}")
        node.attrs = {"group": group, "offset_group": parts, "window": win}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x, w = inputs[0], inputs[1]
        assert x and w and x.dtype
        return [(x.dtype, (x.dims[0], w.dims[0], *node.attrs["window"].out))]


@register("DeformColumns")
class DeformColumns(Op):
    """inputs: X, offset, mask or none -> (N, C * taps, O1...): what every tap meets, times its factor. Attributes are
    those of DeformConv. Channels are those of the first group, tap after tap, then of the next group.
    """

    layout = "last"
    activations = (0,)

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        raise AssertionError(f"{node.op} is made after shapes are known")

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        x, offset, mask = node.inputs[0], node.inputs[1], node.input(2)
        found: list[str | None] = [None] * len(node.inputs)
        if need[0]:
            found[0] = back.add("DeformInputGrad", [offset, mask, dy], like=x, attrs=node.attrs)
        if any(need[1:]):
            shapes = [back.graph.values[name] for name in (offset, mask) if name]
            outputs = [back.graph.new_value(f"{v.name}.grad", v.dtype, v.dims, v.layout) for v in shapes]
            back.node("DeformOffsetGrad", [x, offset, mask, dy], outputs, node.attrs)
            found[1 : 1 + len(outputs)] = outputs
        return found

    def bind(self, node: Node, b: Binder) -> None:
        x, offset, mask = b.value(node.inputs[0]), b.value(node.inputs[1]), node.input(2)
        sampling = _deformed(node, x, offset, b.value(mask) if mask else None)
        arrays = b.buffer(x.name), b.buffer(offset.name), b.optional(mask)
        sampling.bind(b, *arrays, b.buffer(node.outputs[0]))


def _deformed(node: Node, x: Value, offset: Value, mask: Value | None) -> Sampling:
    win: Window = node.attrs["window"]
    group, parts, rank, channels = node.attrs["group"], node.attrs["offset_group"], len(win.size), x.dims[1]
    step, mask_step = strides(offset), strides(mask) if mask else (0,) * (rank + 2)
    deep, run = channels // group, gcd(channels // group, channels // parts)
    chunks = []
    for first in range(0, channels, run):
        start = first // deep * deep * win.taps + first % deep
        part = first // (channels // parts)
        chunks += [(part * win.taps + tap, first, start + tap * deep) for tap in range(win.taps)]
    kernel, steps, spread = (triple(v, 1) for v in (win.kernel, win.strides, win.dilations))
    return Sampling(
        images=x.dims[0],
        channels=channels,
        size=win.size,
        out=win.out,
        form=(rank, LINEAR, ZEROS, 1, 0),
        strides=(0, step[0], rank * step[1], step[1], *triple(step[2:], 0)),
        mask=(mask_step[0], mask_step[1], *triple(mask_step[2:], 0)),
        sets=parts * win.taps,
        window=(*kernel, *steps, *spread, *triple(win.begins, 0)),
        chunks=tuple(n for chunk in chunks for n in chunk),
        run=run,
        pitch=channels * win.taps,
    )


@register("DeformInputGrad")
class DeformInputGrad(Op):
    """inputs: offset, mask or none, the gradient of the columns -> dX."""

    def bind(self, node: Node, b: Binder) -> None:
        offset, mask, dx = b.value(node.inputs[0]), node.inputs[1], b.value(node.outputs[0])
        fill(b, dx, 0)
        sampling = _deformed(node, dx, offset, b.value(mask) if mask else None)
        arrays = b.buffer(offset.name), b.optional(mask), b.buffer(node.inputs[2])
        sampling.bind_input_grad(b, *arrays, b.buffer(dx.name))


@register("DeformOffsetGrad")
class DeformOffsetGrad(Op):
    """inputs: X, offset, mask or none, the gradient of the columns -> the gradients by offset and mask."""

    def bind(self, node: Node, b: Binder) -> None:
        x, offset, mask = b.value(node.inputs[0]), b.value(node.inputs[1]), node.inputs[2]
        sampling = _deformed(node, x, offset, b.value(mask) if mask else None)
        arrays = b.buffer(x.name), b.buffer(offset.name), b.optional(mask), b.buffer(node.inputs[3])
        sampling.bind_values_grad(b, *arrays, b.buffer(node.outputs[0]), b.optional(node.output(1)))
