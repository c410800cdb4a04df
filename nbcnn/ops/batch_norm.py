"""BatchNormalization (ONNX opsets 1, 6, 7, 9, 14, 15) on running or on batch statistics, and its gradient.

A residual of the output's shape (input 5, put there by the fuse pass) and a clamp are applied while the output is
stored. Behind Conv, ConvTranspose or Gemm a batch norm on running statistics disappears into their weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcnn.binder import Binder, Buffer
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.graph import Node, Value
from nbcnn.kernels.cpu.row_tiles import TILE_CHANNELS, TILE_ROWS, pitch_of
from nbcnn.kernels.cuda.row_parts import parts_of
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.gather import bounds

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["BatchNormalization"]

PARAMETERS = ("scale", "bias", "mean", "variance")


def _dims(b: Binder, name: str) -> tuple[int, int]:
    """(rows, channels) of an activation."""
    value = b.value(name)
    return value.size // value.dims[1], value.dims[1]


def _partials(b: Binder, dims: tuple[int, int]) -> Buffer:
    if b.backend == "cuda":
        return b.scratch(parts_of(1, *dims) * 2 * dims[1], np.float64)
    return b.scratch(-(-dims[0] // TILE_ROWS) * 2 * pitch_of(dims[1]))


@register("BatchNormalization")
class BatchNormalization(Op):
    """X (N, C, D1...), scale (C), bias (C), mean (C), variance (C) -> Y, like X.

    Normalized attributes: training (on batch statistics), epsilon, momentum. A training node has the outputs Y, batch
    mean, batch variance, and, where the file names them, the new running mean and variance, for which alone it keeps
    inputs 3 and 4.
    """

    layout = "last"
    activations = (0, 5)
    since = 1
    trainable = (1, 2)
    halves = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        if node.attrs.get("spatial", 1) or facts.opset >= 9:
            self._normalize(node, facts)
        else:
            self._normalize_elements(node, facts)

    def _normalize_elements(self, node: Node, facts: Facts) -> None:
        """Statistics for each element of a sample (spatial=0, until opset 8), which are those of as many channels."""
        x, (y, *extra) = facts.value(node, 0), node.outputs
        if facts.train or any(extra):
            raise UnsupportedError(f"{node.label}: spatial=0 (statistics for each pixel) is for inference only")
        for index, what in enumerate(PARAMETERS, 1):
            if facts.value(node, index).dims != x.dims[1:]:
                shape = facts.value(node, index).dims
                raise ModelError(
                    f"{node.label}: {what} has shape {shape}, not one value for each place of {x.dims[1:]}"
                )
        count = prod(x.dims[1:])
        shapes = [(x.dims[0], count), *[(count,)] * 4]
        inputs = [facts.reshape(name, shape, node) for name, shape in zip(node.inputs, shapes, strict=True)]
        inner = facts.graph.new_value(f"{y}.flat", x.dtype, shapes[0])
        flat = Node(node.op, inputs, [inner], node.attrs, name=node.name)
        self._normalize(flat, facts)
        for name, (kind, shape) in zip(flat.outputs, self.infer(flat, [facts.value(flat, 0)]), strict=True):
            facts.graph.values[name] = Value(name, kind, shape)
        facts.graph.nodes.append(flat)
        node.op, node.inputs, node.attrs = "Reshape", [inner], {"shape": x.dims}

    def _normalize(self, node: Node, facts: Facts) -> None:
        x, attrs = facts.value(node, 0), node.attrs
        facts.need_floats(node)
        if len(x.dims) < 2:
            raise UnsupportedError(f"{node.label}: the input {x.dims} has no channels")
        for index, what in enumerate(PARAMETERS, 1):
            if facts.value(node, index).dims != x.dims[1:2]:
                shape = facts.value(node, index).dims
                raise ModelError(f"{node.label}: {what} has shape {shape}, not one value for each channel of {x.dims}")
        extra = node.outputs[1:]
        wanted = set(extra) & set(facts.graph.output_names()) - {""}
        if facts.opset < 7:
            asked = not attrs.get("is_test", 0)
        elif facts.opset < 14:  # more than one output, by which later readers go only where they are used
            asked = bool(wanted)
        else:
            asked = bool(attrs.get("training_mode", 0))
        node.attrs = {
            "training": facts.train or asked,
            "epsilon": float(attrs.get("epsilon", 1e-5)),
            "momentum": float(attrs.get("momentum", 0.9)),
        }
        node.outputs = node.outputs[:1]
        if node.attrs["training"]:
            self._add_statistics(node, facts, extra[:2], extra[2:])
        elif wanted:
            raise UnsupportedError(f"{node.label}: output {min(wanted)!r} exists only while training")

    def _add_statistics(self, node: Node, facts: Facts, new_running: list[str], saved: list[str]) -> None:
        """Outputs for the batch statistics, named as `saved` where the file does (before opset 14); while training,
        nodes that move the running ones.
        """
        x, graph = facts.value(node, 0), facts.graph
        hints = [f"nbcnn.{node.outputs[0]}.{what}" for what in ("mean", "variance")]
        batch = [name or graph.fresh(hint) for name, hint in zip([*saved, "", ""], hints, strict=False)]
        for name in batch:
            graph.values[name] = Value(name, x.dtype, x.dims[1:2])
        if facts.train:
            attrs = {"momentum": node.attrs["momentum"], "effect": True}
            for running, name in zip(node.inputs[3:5], batch, strict=True):
                graph.nodes.append(Node("RunningAverage", [running, name], [], dict(attrs), name=f"update {running}"))
        node.outputs += [*batch, *new_running]
        if not any(new_running):
            node.inputs[3:5] = ["", ""]

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x and x.dtype
        if node.op == "Reshape":
            return [(x.dtype, node.attrs["shape"])]
        return [(x.dtype, x.dims if i == 0 else x.dims[1:2]) for i in range(len(node.outputs))]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy, *_), (x, scale, bias, *_) = dys, node.inputs
        found: list[str | None] = [None] * len(node.inputs)
        if dy is None:
            return found
        values, training, residual = back.graph.values, node.attrs["training"], node.input(5)
        attrs: dict[str, Any] = {k: node.attrs[k] for k in ("epsilon", "low", "high") if k in node.attrs}
        y = node.outputs[0] if residual else ""
        operands = [dy, x, y, scale, bias, *(node.outputs[1:3] if training else node.inputs[3:5])]
        sums = ["", ""]
        if training or need[1] or need[2]:
            sums = [back.graph.new_value(f"{n}.grad", values[n].dtype, values[n].dims) for n in (scale, bias)]
            back.node("BatchNormalizationSums", operands, sums, attrs)
            found[1:3] = sums
        shared = bool(residual) and need[5] and "low" in node.attrs
        if need[0]:
            like = values[x]
            outputs = [back.graph.new_value(f"{x}.grad", like.dtype, like.dims, like.layout)]
            if shared:
                outputs.append(back.graph.new_value(f"{residual}.grad", like.dtype, like.dims, like.layout))
                found[5] = outputs[1]
            back.node("BatchNormalizationInputGrad", operands + (sums if training else ["", ""]), outputs, attrs)
            found[0] = outputs[0]
        if residual and need[5] and found[5] is None:
            found[5] = back.unclamp(node, dy)[1]
        return found

    def bind(self, node: Node, b: Binder) -> None:
        x, scale, bias, mean, var = (node.input(i) for i in range(5))
        y, residual = node.outputs[0], node.input(5)
        dims, epsilon = _dims(b, x), b.dtype.type(node.attrs["epsilon"])
        if node.attrs["training"]:
            running, (mean, var) = (mean, var), node.outputs[1:3]
            b.call("batch_norm_statistics", b.buffer(x), b.buffer(mean), b.buffer(var), _partials(b, dims), dims)
            for old, batch, new in zip(running, (mean, var), node.outputs[3:], strict=False):
                if new:
                    momentum = b.dtype.type(node.attrs["momentum"])
                    b.call("running_average", b.buffer(old), b.buffer(batch), b.buffer(new), momentum)
        if not b.in_place(y, x) and residual:
            b.in_place(y, residual)
        parameters = (b.buffer(name) for name in (scale, bias, mean, var))
        gains, limits = b.scratch(TILE_CHANNELS * b.threads), bounds(node, b.dtype)
        b.call(
            "batch_norm_apply",
            b.buffer(x),
            *parameters,
            b.optional(residual),
            b.buffer(y),
            gains,
            dims,
            epsilon,
            *limits,
        )


class _Gradient(Op):
    """inputs: dY, X, Y (or none: without a residual it is worked out again), scale, bias, mean, variance."""

    layout = "last"
    activations = (0, 1, 2)


@register("BatchNormalizationSums")
class BatchNormalizationSums(_Gradient):
    """-> dscale (C), dbias (C)."""

    def bind(self, node: Node, b: Binder) -> None:
        dims = _dims(b, node.inputs[1])
        operands = (b.optional(name) for name in node.inputs)
        sums = (b.buffer(name) for name in node.outputs)
        scratch = (_partials(b, dims), b.scratch(3 * TILE_CHANNELS * b.threads))
        epsilon, limits = b.dtype.type(node.attrs["epsilon"]), bounds(node, b.dtype)
        b.call("batch_norm_sums", *operands, *sums, *scratch, dims, epsilon, *limits)


@register("BatchNormalizationInputGrad")
class BatchNormalizationInputGrad(_Gradient):
    """more inputs: dscale, dbias (none: the statistics were constants). -> dX, and, if listed, dresidual."""

    halves = 2

    def bind(self, node: Node, b: Binder) -> None:
        dims = _dims(b, node.inputs[1])
        b.in_place(node.outputs[0], node.inputs[0])
        operands = (b.optional(name) for name in node.inputs)
        results = (b.optional(node.output(i)) for i in range(2))
        factors = b.scratch(3 * TILE_CHANNELS * b.threads)
        epsilon, limits = b.dtype.type(node.attrs["epsilon"]), bounds(node, b.dtype)
        b.call("batch_norm_input_grad", *operands, *results, factors, dims, epsilon, *limits)


@register("RunningAverage")
class RunningAverage(Op):
    """inputs: a running statistic, the batch's. The first becomes first * momentum + second * (1 - momentum)."""

    activations = ()
    needs_whole = True

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        return []

    def bind(self, node: Node, b: Binder) -> None:
        running, batch = b.buffer(node.inputs[0]), b.buffer(node.inputs[1])
        if running.kind != "held":
            raise UnsupportedError(
                f"{node.label}: a batch norm can only be trained where its running statistics are initializers; "
                "freeze the layer"
            )
        b.call("running_average", running, batch, running, b.dtype.type(node.attrs["momentum"]))


@register("BatchNormalizationFold")
class BatchNormalizationFold(Op):
    """inputs: W, bias or none, scale, bias, mean, variance -> W', bias' of a layer that needs no batch norm behind it.

    Made by the fuse pass. Attributes: epsilon; axis: that of the output channels in W (0, or 1 in Gemm and
    ConvTranspose); group: how many equal parts W's first axis has, each with output channels of its own
    (ConvTranspose).
    """

    layout = "plain"
    activations = ()

    def bind(self, node: Node, b: Binder) -> None:
        shape, group = b.value(node.inputs[0]).dims, node.attrs["group"]
        if node.attrs["axis"] == 0:
            dims = (1, 1, shape[0], prod(shape[1:]))
        else:
            dims = (group, shape[0] // group, shape[1], prod(shape[2:]))
        arrays = (b.optional(name) for name in (*node.inputs, *node.outputs))
        b.call("batch_norm_fold", *arrays, dims, b.dtype.type(node.attrs["epsilon"]))
