"""Normalization of each sample by itself: InstanceNormalization, GroupNormalization, LayerNormalization,
RMSNormalization, MeanVarianceNormalization, LpNormalization; and their gradient.

All are Y = (X - mean) * inverse * scale + bias, where mean and inverse belong to a part of X: to some axes taken as
one, or to a group of channels with all their pixels. The kernels see X in memory as (outer, rows, groups, width); mean
and inverse are those of each (outer, group).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcnn.binder import Binder, Buffer
from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.kernels import opcodes
from nbcnn.kernels.cpu.row_tiles import pitch_of, whole_rows
from nbcnn.kernels.cuda.row_parts import parts_of, rows_of_part
from nbcnn.ops.axes import axis_of
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.elementwise import constants, need_float
from nbcnn.ops.norm_form import Form, form_of, form_of_axes, statistics_dims
from nbcnn.ops.runs import Run, reduce_runs

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

MVN_EPSILON = 1e-9
"""What MeanVarianceNormalization adds to the standard deviation, opset 13."""
BLOCK, PARTS = 16384, 64
"""Elements that one task of a sum over lines is worth at least, and the most such tasks."""


# --- operators --------------------------------------------------------------------------------------------------------


class _Normalization(Op):
    """Normalized: inputs X, scale, bias (none, or a value for each place in `groups` lines); outputs Y, mean, inverse.
    Attributes: kind (of opcodes.py), inside and outside (added to what is under the root, and to the root), mean
    (whether a sum is divided by the number of elements); and axes, or groups, which are parts of the channels.
    """

    activations = (0,)

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x is not None
        kind = need_float(node, x)
        if node.op in ("Transpose", "Mul", "Add"):  # the last step of several
            return [(kind, tuple(x.dims[axis] for axis in node.attrs.get("perm", range(len(x.dims)))))]
        return [(kind, x.dims), *[(kind, statistics_dims(node.attrs, x.dims))] * 2]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        found: list[str | None] = [None] * len(node.inputs)
        if any(dys[1:]):
            raise ModelError(f"{node.label}: cannot be trained through its mean and deviation")
        if dys[0] is None:
            return found
        x, scale, *_ = (*node.inputs, "")
        for i, name in enumerate(node.inputs):
            if need[i]:
                like = back.graph.values[name]
                found[i] = back.graph.new_value(f"{name}.grad", like.dtype, like.dims, like.layout)
        outputs = [*((name or "") for name in found), "", ""][:3]
        back.node("NormalizationGrad", [dys[0], x, scale, *node.outputs[1:3]], outputs, node.attrs)
        return found

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), node.outputs[0]
        if not x.size:
            return
        form = form_of(x, node.attrs)
        assert form is not None
        b.in_place(y, x.name)
        scale, bias = (b.optional(node.input(i)) for i in (1, 2))
        if scale.size and not bias.size:
            bias = b.zeros(scale.size)
        arrays, settings = [b.buffer(name) for name in node.outputs[1:3]], _settings(node, x)
        if form.in_lines:
            target = b.buffer(y), *arrays
            b.call("norm_lines", node.attrs["kind"], b.buffer(x.name), scale, bias, *target, form.line_dims, settings)
            return
        tables = b.scratch(3 * form.outer * form.groups * form.width)
        statistics = _columns(node, b, b.buffer(x.name), form)
        given = *statistics, scale, bias, *arrays, tables
        b.call("norm_columns_tables", node.attrs["kind"], *given, form.column_dims, settings)
        b.call("norm_columns_apply", b.buffer(x.name), b.empty(), tables, b.buffer(y), form.column_dims)


def _columns(node: Node, b: Binder, x: Buffer, form: Form) -> tuple[Buffer, Buffer]:
    """Means and variances of columns; or nothing, and the sums that the node's kind says."""
    outer, rows, columns, _ = form.column_dims
    second = b.scratch(outer * columns)
    if node.attrs["kind"] == opcodes.DEVIATION:
        first = b.scratch(outer * columns)
        b.call("norm_columns_moments", x, first, second, _partials(b, form), form.column_dims)
        return first, second
    code = opcodes.SUM_OF_SQUARES if node.attrs["kind"] == opcodes.LENGTH else opcodes.SUM_OF_SIZES
    reduce_runs(b, code, x, second, [Run(outer, False), Run(rows, True), Run(columns, False)], 1.0)
    return b.empty(), second


def _partials(b: Binder, form: Form) -> Buffer:
    outer, rows, columns, _ = form.column_dims
    if b.backend == "cuda":
        return b.scratch(outer * parts_of(outer, rows, columns) * 2 * columns, np.float64)
    return b.scratch(outer * -(-rows // whole_rows(columns)[0]) * 2 * pitch_of(columns))


def _parts_of_lines(b: Binder, form: Form, channels: int) -> tuple[int, Buffer]:
    """Lines of each part of a sum over lines, and room for the sums."""
    if b.backend == "cuda":
        block = rows_of_part(1, form.outer, channels)
        parts = -(-form.outer // block) if form.repeat == 1 else form.outer
        return block, b.scratch(2 * channels * parts, np.float64)
    lines = form.line_dims[0]
    block = max(BLOCK // form.width, -(-lines // PARTS), 1)
    parts = -(-lines // block) if form.groups * form.repeat == 1 else form.outer
    return block, b.scratch(2 * channels * parts)


def _settings(node: Node, x: Value) -> tuple[float, float, float]:
    """What norm_lines.py calls so."""
    attrs = node.attrs
    count = x.size // max(prod(statistics_dims(attrs, x.dims)), 1) if attrs["mean"] else 1
    return float(count), attrs["inside"], attrs["outside"]


# --- what the opsets say ----------------------------------------------------------------------------------------------


def _attributes(kind: int, inside: float = 0.0, outside: float = 0.0, mean: bool = True, **part: Any) -> dict[str, Any]:
    return {"kind": kind, "inside": inside, "outside": outside, "mean": mean, **part}


def _name_statistics(node: Node, facts: Facts) -> None:
    """Outputs for mean and inverse where the file has none."""
    names = [*node.outputs, "", ""][:3]
    hints = [f"nbcnn.{names[0]}.{what}" for what in ("mean", "inverse")]
    node.outputs = [names[0], *(name or facts.graph.fresh(hint) for name, hint in zip(names[1:], hints, strict=True))]


def _before(facts: Facts, op: str, inputs: list[str], shape: Iterable[int], attrs: dict[str, Any] | None = None) -> str:
    """Put a node in front; its output, of the first input's type."""
    name = facts.graph.new_value(f"{inputs[0]}.{op}", facts.graph.values[inputs[0]].dtype, shape)
    facts.graph.nodes.append(Node(op, inputs, [name], attrs or {}, name=name))
    return name


def _expanded(facts: Facts, name: str, shape: tuple[int, ...]) -> str:
    """A value repeated to a shape of as many dimensions."""
    if facts.graph.values[name].dims == shape:
        return name
    return _before(facts, "Expand", [name], shape, {"shape": shape})


def _reshaped(facts: Facts, name: str, shape: tuple[int, ...]) -> str:
    if facts.graph.values[name].dims == shape:
        return name
    return _before(facts, "Reshape", [name], shape, {"shape": shape})


def _check_channels(node: Node, facts: Facts, index: int, count: int, what: str) -> None:
    given = facts.value(node, index)
    if given.dims != (count,):
        name = ("scale", "bias")[index - 1]
        raise ModelError(f"{node.label}: {name} has shape {given.dims}, not ({count},), one value for each {what}")


@register("InstanceNormalization")
class InstanceNormalization(_Normalization):
    """ONNX opsets 6, 22 (Ulyanov et al., arXiv:1607.08022). X (N, C, D1...), scale (C), bias (C)."""

    since = 6
    alike = (0, 1, 2)
    trainable = (1, 2)

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        if len(x.dims) < 2:
            raise ModelError(f"{node.label}: the input {x.dims} has no channels")
        for index in (1, 2):
            _check_channels(node, facts, index, x.dims[1], "channel")
        inside = float(node.attrs.get("epsilon", 1e-5))
        node.attrs = _attributes(opcodes.DEVIATION, inside, groups=x.dims[1])
        _name_statistics(node, facts)


@register("GroupNormalization")
class GroupNormalization(_Normalization):
    """ONNX opsets 18 (scale and bias for each group), 21 (for each channel) (Wu and He, arXiv:1803.08494)."""

    since = 18
    alike = (0, 1, 2)
    trainable = (1, 2)

    def normalize(self, node: Node, facts: Facts) -> None:
        x, groups = facts.value(node, 0), int(node.attrs.get("num_groups", 0))
        if len(x.dims) < 2 or groups < 1 or x.dims[1] % groups:
            raise ModelError(f"{node.label}: the channels of {x.dims} do not divide into num_groups={groups}")
        each = x.dims[1] // groups
        for index in (1, 2):
            if facts.opset >= 21:
                _check_channels(node, facts, index, x.dims[1], "channel")
                continue
            _check_channels(node, facts, index, groups, "group")
            whole = _expanded(facts, _reshaped(facts, node.inputs[index], (groups, 1)), (groups, each))
            node.inputs[index] = _reshaped(facts, whole, x.dims[1:2])
        node.attrs = _attributes(opcodes.DEVIATION, float(node.attrs.get("epsilon", 1e-5)), groups=groups)
        _name_statistics(node, facts)


class _OverLastAxes(_Normalization):
    """Over all axes from one on. Scale and bias broadcast to X."""

    layout = "plain"
    kind = opcodes.DEVIATION

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        axis = axis_of(node, int(node.attrs.get("axis", -1)), len(x.dims))
        inside = float(node.attrs.get("epsilon", 1e-5))
        node.attrs = _attributes(self.kind, inside, axes=tuple(range(axis, len(x.dims))))
        _name_statistics(node, facts)
        self._settle_parameters(node, facts, x.dims, axis)

    @staticmethod
    def _settle_parameters(node: Node, facts: Facts, dims: tuple[int, ...], axis: int) -> None:
        """Scale and bias in the shape of the last axes; by nodes of their own where they differ along others."""
        given = {i: facts.value(node, i).dims for i in (1, 2) if node.input(i)}
        for i, shape in given.items():
            if len(shape) > len(dims) or any(n not in (1, d) for n, d in zip(shape[::-1], dims[::-1], strict=False)):
                raise ModelError(f"{node.label}: input {i} of shape {shape} does not broadcast to {dims}")
        if any(prod(shape[: max(len(shape) - (len(dims) - axis), 0)]) != 1 for shape in given.values()):
            _apply_apart(node, facts, dims)
            return
        for i, shape in given.items():
            last = (*(1,) * (len(dims) - axis - len(shape)), *shape[max(len(shape) - (len(dims) - axis), 0) :])
            node.inputs[i] = _expanded(facts, _reshaped(facts, node.inputs[i], last), dims[axis:])


def _apply_apart(node: Node, facts: Facts, dims: tuple[int, ...]) -> None:
    """Multiply by the scale, and add the bias, after a normalization without them; the node becomes the last step."""
    x, scale, *bias = node.inputs
    graph, y = facts.graph, node.outputs[0]
    value = facts.value(node, 0)
    bare = graph.new_value(f"{y}.normalized", value.dtype, dims)
    for name in node.outputs[1:]:
        graph.values[name] = Value(name, value.dtype, statistics_dims(node.attrs, dims))
    graph.nodes.append(Node(node.op, [x], [bare, *node.outputs[1:]], node.attrs, name=node.name))
    steps = [("Mul", scale), *(("Add", name) for name in bias if name)]
    for op, name in steps[:-1]:
        bare = _before(facts, op, [bare, name], dims)
    node.op, node.inputs, node.outputs, node.attrs = steps[-1][0], [bare, steps[-1][1]], [y], {}


@register("LayerNormalization")
class LayerNormalization(_OverLastAxes):
    """ONNX opset 17 (Ba et al., arXiv:1607.06450). X, scale, bias or none -> Y, mean, 1 / standard deviation."""

    since = 17
    alike = (0, 1, 2)
    trainable = (1, 2)


@register("RMSNormalization")
class RMSNormalization(_OverLastAxes):
    """ONNX opset 23 (Zhang and Sennrich, arXiv:1910.07467). X, scale -> X / root of the mean of squares * scale."""

    since = 23
    alike = (0, 1)
    trainable = (1,)
    kind = opcodes.LENGTH


@register("MeanVarianceNormalization")
class MeanVarianceNormalization(_Normalization):
    """ONNX opsets 9, 13. Axes (default 0, 2, 3) that are taken as one."""

    since = 9

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        axes = tuple(sorted({axis_of(node, int(a), len(x.dims)) for a in node.attrs.get("axes", (0, 2, 3))}))
        node.attrs = _attributes(opcodes.DEVIATION, outside=MVN_EPSILON, axes=axes)
        if any(form_of_axes(Value("", x.dtype, x.dims, layout), axes) is None for layout in ("plain", "last")):
            _transpose(node, facts)
        else:
            _name_statistics(node, facts)


def _transpose(node: Node, facts: Facts) -> None:
    """Normalize with the axes that are taken as one at the end; the node becomes the way back."""
    x, (y, *_), axes = facts.value(node, 0), node.outputs, node.attrs["axes"]
    perm = tuple(sorted(range(len(x.dims)), key=lambda axis: axis in axes))
    dims = tuple(x.dims[axis] for axis in perm)
    turned = _before(facts, "Transpose", [x.name], dims, {"perm": perm})
    attrs = node.attrs | {"axes": tuple(range(len(dims) - len(axes), len(dims)))}
    made = Node(node.op, [turned], [facts.graph.new_value(f"{y}.turned", x.dtype, dims)], attrs, name=node.name)
    _name_statistics(made, facts)
    for name in made.outputs[1:]:
        facts.graph.values[name] = Value(name, x.dtype, statistics_dims(attrs, dims))
    facts.graph.nodes.append(made)
    back = tuple(perm.index(axis) for axis in range(len(perm)))
    node.op, node.inputs, node.attrs = "Transpose", made.outputs[:1], {"perm": back}


@register("LpNormalization")
class LpNormalization(_Normalization):
    """ONNX opsets 1, 22: X divided by its p-norm along an axis, p 1 or 2; 0 where that is 0."""

    since = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        x, p = facts.value(node, 0), int(node.attrs.get("p", 2))
        axis = axis_of(node, int(node.attrs.get("axis", -1)), len(x.dims))
        if p not in (1, 2):
            raise ModelError(f"{node.label}: p is {p}; it must be 1 or 2")
        node.attrs = _attributes(opcodes.SIZE if p == 1 else opcodes.LENGTH, mean=False, axes=(axis,))
        _name_statistics(node, facts)


# --- gradient ---------------------------------------------------------------------------------------------------------


@register("NormalizationGrad")
class NormalizationGrad(Op):
    """inputs: dY, X, scale or none, mean, inverse -> dX, dscale, dbias, of which any may be left out. Attributes: of
    the normalization.
    """

    activations = (0, 1)

    def bind(self, node: Node, b: Binder) -> None:
        form = form_of(b.value(node.inputs[1]), node.attrs)
        assert form is not None
        if form.in_lines:
            self._bind_lines(node, b, form)
        else:
            self._bind_columns(node, b, form)

    @staticmethod
    def _bind_lines(node: Node, b: Binder, form: Form) -> None:
        dy, x, scale, mean, inverse = (b.optional(name) for name in node.inputs)
        dx, *parameters = (node.output(i) for i in range(3))
        dims, channels = form.line_dims, form.groups * (form.width // form.repeat)
        if any(parameters):
            block, partials = _parts_of_lines(b, form, channels)
            sums = [b.buffer(name) if name else b.scratch(channels) for name in parameters]
            b.call("norm_lines_parameters", dy, x, mean, inverse, *sums, partials, dims, block)
        if dx:
            b.in_place(dx, node.inputs[0])
            settings = _settings(node, b.value(node.inputs[1]))
            b.call("norm_lines_grad", node.attrs["kind"], dy, x, scale, mean, inverse, b.buffer(dx), dims, settings)

    @staticmethod
    def _bind_columns(node: Node, b: Binder, form: Form) -> None:
        dy, x, scale, mean, inverse = (b.optional(name) for name in node.inputs)
        dx, *parameters = (node.output(i) for i in range(3))
        dims, kind = form.column_dims, node.attrs["kind"]
        size = form.outer * form.groups * form.width
        tables, sums = b.scratch(4 * size), b.scratch(2 * size)
        given = [b.optional(name) for name in parameters]
        b.call("norm_columns_sums", dy, x, mean, tables, sums, _partials(b, form), dims)
        settings = _settings(node, b.value(node.inputs[1]))
        b.call("norm_columns_grad", kind, sums, scale, inverse, tables, *given, dims, settings)
        if not dx:
            return
        if kind == opcodes.SIZE:
            signs = b.scratch(x.size)
            program = b.constant(np.array([(opcodes.SIGN, opcodes.X, 0, opcodes.Y)], np.int64))
            b.call("elementwise", program, constants(b, (0.0, 0.0)), x, x, signs, b.empty())
            x = signs
        b.in_place(dx, node.inputs[0])
        b.call("norm_columns_apply", x, dy, tables, b.buffer(dx), dims)
