"""Concat and Split along an axis, each the other's gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError, brief
from nbcnn.graph import Node, Value
from nbcnn.ops.axes import axis_of
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.strided import copy, fill, strides

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward


def _copy_part(b: Binder, source: str, target: str, axis: int, part: str, offset: int) -> None:
    """Copy the part, which is one of the two values, from or to `offset` along `axis` of the other."""
    x, y = b.value(source), b.value(target)
    axes = list(zip(b.value(part).dims, strides(x), strides(y), strict=True))
    if part == source:
        copy(b, x, y, axes, 0, offset * strides(y)[axis])
    else:
        copy(b, x, y, axes, offset * strides(x)[axis], 0)


@register("Concat")
class Concat(Op):
    """ONNX opsets 4, 11, 13. Normalized: axis, from the front. Channels last, each pixel is copied as a run; inputs
    that were written into their places (passes/parts.py) are not copied.
    """

    since = 4
    alike = None
    halves = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        values = [facts.value(node, k) for k in range(len(node.inputs))]
        rank = len(values[0].dims)
        axis = axis_of(node, int(node.attrs.get("axis", 1)), rank)
        rest = [v.dims[:axis] + v.dims[axis + 1 :] for v in values]
        if any(len(v.dims) != rank for v in values) or any(r != rest[0] for r in rest):
            shapes = ", ".join(str(v.dims) for v in values)
            raise ModelError(f"{node.label}: inputs {shapes} differ in more than axis {axis}")
        node.attrs = {"axis": axis}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        values, axis = [v for v in inputs if v], node.attrs["axis"]
        first = values[0]
        assert first.dtype
        total = sum(v.dims[axis] for v in values)
        return [(first.dtype, (*first.dims[:axis], total, *first.dims[axis + 1 :]))]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        known = [a for a in arrays if a is not None]
        return [np.concatenate(known, node.attrs["axis"])] if len(known) == len(arrays) else None

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        axis, offset = node.attrs["axis"], 0
        found: list[str | None] = []
        for name, needed in zip(node.inputs, need, strict=True):
            attrs = {"axis": axis, "offset": offset}
            found.append(back.add("ConcatGrad", [dy], like=name, attrs=attrs) if needed else None)
            offset += back.graph.values[name].dims[axis]
        return found

    def bind(self, node: Node, b: Binder) -> None:
        (y,), axis, offset = node.outputs, node.attrs["axis"], 0
        for x in node.inputs:
            if not b.value(x).part:
                _copy_part(b, x, y, axis, x, offset)
            offset += b.value(x).dims[axis]


@register("ConcatGrad")
class ConcatGrad(Op):
    """inputs: dY; -> dX of one input, the part from `offset` on along `axis`."""

    halves = 1 << 16  # all

    def bind(self, node: Node, b: Binder) -> None:
        (dy,), (dx,) = node.inputs, node.outputs
        _copy_part(b, dy, dx, node.attrs["axis"], dx, node.attrs["offset"])


@register("Split")
class Split(Op):
    """ONNX opsets 2, 11 (split attribute), 13 (split input), 18 (num_outputs). Normalized: axis, sizes."""

    since = 2
    halves = 1 << 16  # all

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        axis = axis_of(node, int(node.attrs.get("axis", 0)), len(x.dims))
        size, count = x.dims[axis], len(node.outputs)
        sizes = facts.ints(node, 1, "split", "the sizes of the parts")
        if sizes is None:
            if "num_outputs" not in node.attrs and size % count:
                raise ModelError(f"{node.label}: axis {axis} of {x.dims} does not split into {count} equal parts")
            part = -(-size // count)
            sizes = [part] * (count - 1) + [size - part * (count - 1)]
        if len(sizes) != count or sum(sizes) != size or min(sizes) < 0:
            raise ModelError(f"{node.label}: axis {axis} of {x.dims} does not split into {count} parts {brief(sizes)}")
        node.inputs = node.inputs[:1]
        node.attrs = {"axis": axis, "sizes": tuple(sizes)}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x, axis = inputs[0], node.attrs["axis"]
        assert x and x.dtype
        return [(x.dtype, (*x.dims[:axis], size, *x.dims[axis + 1 :])) for size in node.attrs["sizes"]]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        if arrays[0] is None:
            return None
        return np.split(arrays[0], np.cumsum(node.attrs["sizes"])[:-1], node.attrs["axis"])

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        return [back.add("SplitGrad", [dy or "" for dy in dys], like=node.inputs[0], attrs=node.attrs)]

    def bind(self, node: Node, b: Binder) -> None:
        (x,), offset = node.inputs, 0
        for y, size in zip(node.outputs, node.attrs["sizes"], strict=True):
            if y:
                _copy_part(b, x, y, node.attrs["axis"], y, offset)
            offset += size


@register("SplitGrad")
class SplitGrad(Op):
    """inputs: dY of each part, "" for one that nothing depends on; -> dX."""

    halves = 1

    def bind(self, node: Node, b: Binder) -> None:
        (dx,), offset = node.outputs, 0
        if not all(node.inputs):
            fill(b, b.value(dx), 0)
        for dy, size in zip(node.inputs, node.attrs["sizes"], strict=True):
            if dy:
                _copy_part(b, dy, dx, node.attrs["axis"], dy, offset)
            offset += size
