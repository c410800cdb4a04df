"""Pad and CenterCropPad: a border of a constant, or of what is there (reflect, edge, wrap); negative pads crop."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError, UnsupportedError, brief
from nbcnn.graph import Node, Value
from nbcnn.ops.axes import axis_of
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.sparse import SparseMatrix, set_matrices
from nbcnn.ops.strided import copy, fill, strides

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

WIDEST = 1 << 24
"""Elements of a border that is copied from what is there, each of which the plan remembers."""


@register("Pad")
class Pad(Op):
    """ONNX opsets 2 (attributes), 11 (inputs), 18 (axes), 19 (wrap).

    Normalized: begins of every axis, shape (of the output), value. Any mode but "constant" becomes SparseAxes.
    """

    since = 2
    alike = (0, 2)
    halves = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        begins, ends = self._pads(node, x, facts)
        mode = node.attrs.get("mode", "constant")
        value = node.attrs.get("value", 0.0)
        given = facts.constant(node, 2, "the constant value")
        if given is not None and given.size:
            value = given.reshape(-1)[0].item()
        shape = tuple(n + begin + end for n, begin, end in zip(x.dims, begins, ends, strict=True))
        if min(shape, default=0) < 0:
            raise ModelError(f"{node.label}: pads {begins + ends} cut more from {x.dims} than there is")
        node.inputs = node.inputs[:1]
        if not any(begins + ends):
            node.op = "Identity"
        if mode == "constant" or node.op == "Identity":
            node.attrs = {"begins": tuple(begins), "shape": shape, "value": value}
            return
        if max(begins + ends) > WIDEST:
            raise ModelError(f"{node.label}: a border of {max(begins + ends)} elements is more than {WIDEST}")
        matrices = {
            axis: SparseMatrix.from_taps(n, _sources(node, mode, n, np.arange(-begins[axis], n + ends[axis])))
            for axis, n in enumerate(x.dims)
        }
        node.op = "SparseAxes"
        set_matrices(node, x.dims, matrices)

    @staticmethod
    def _pads(node: Node, x: Value, facts: Facts) -> tuple[list[int], list[int]]:
        """What goes before and after every axis."""
        rank = len(x.dims)
        pads = facts.ints(node, 1, "pads", "the pads")
        axes = facts.ints(node, 3, "axes", "the axes")
        axes = list(range(rank)) if axes is None else [axis_of(node, axis, rank) for axis in axes]
        if pads is None or len(pads) != 2 * len(axes):
            raise ModelError(f"{node.label}: pads {brief(pads)} do not fit axes {axes} of {x.dims}")
        begins, ends = [0] * rank, [0] * rank
        for axis, begin, end in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
            begins[axis], ends[axis] = begin, end
        return begins, ends

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x and x.dtype
        return [(x.dtype, node.attrs["shape"])]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        return [back.add("PadGrad", [dy], like=node.inputs[0], attrs={"begins": node.attrs["begins"]})]

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        _move(b, x, y, node.attrs["begins"], node.attrs["value"])


@register("CenterCropPad")
class CenterCropPad(Pad):
    """ONNX opset 18. Input 1: the new size of `axes` (default: all); what is missing is zero, the odd one at the end.

    Becomes Pad.
    """

    since = 18

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        rank = len(x.dims)
        sizes = facts.ints(node, 1, "shape", "the shape") or []
        axes = [axis_of(node, int(axis), rank) for axis in node.attrs.get("axes", range(rank))]
        if len(sizes) != len(axes) or min(sizes, default=0) < 0:
            raise ModelError(f"{node.label}: shape {brief(sizes)} does not fit axes {axes} of {x.dims}")
        shape, begins = list(x.dims), [0] * rank
        for axis, size in zip(axes, sizes, strict=True):
            missing = size - x.dims[axis]
            begins[axis] = missing // 2 if missing > 0 else -(-missing // 2)
            shape[axis] = size
        node.op = "Pad" if tuple(shape) != x.dims else "Identity"
        node.inputs = node.inputs[:1]
        node.attrs = {"begins": tuple(begins), "shape": tuple(shape), "value": 0.0}


def _sources(node: Node, mode: str, n: int, places: np.ndarray) -> np.ndarray:
    """The element of an axis of n that each place, counted from the axis' start, is a copy of."""
    if mode not in ("reflect", "edge", "wrap"):
        raise UnsupportedError(f"{node.label}: mode {mode!r} is none of constant, reflect, edge, wrap")
    if n == 0 and len(places):
        raise ModelError(f"{node.label}: mode {mode!r} has nothing to fill the border of an empty axis with")
    if mode == "wrap":
        return places % max(n, 1)
    if mode == "edge":
        return places.clip(0, n - 1)
    # There and back again: 0, 1 ... n-1 ... 1, and so on.
    folded = places % max(2 * (n - 1), 1)
    return np.minimum(folded, np.maximum(2 * (n - 1) - folded, 0))


def _move(b: Binder, x: Value, y: Value, moves: Sequence[int], value: float) -> None:
    """y[i + moves] = x[i] wherever both exist, `value` elsewhere."""
    x_strides, y_strides = strides(x), strides(y)
    first = [max(-move, 0) for move in moves]
    counts = [max(min(n, m - move) - begin, 0) for n, m, move, begin in zip(x.dims, y.dims, moves, first, strict=True)]
    if prod(counts) < y.size:
        fill(b, y, value)
    x_start = sum(begin * stride for begin, stride in zip(first, x_strides, strict=True))
    y_start = sum((begin + move) * stride for begin, move, stride in zip(first, moves, y_strides, strict=True))
    copy(b, x, y, list(zip(counts, x_strides, y_strides, strict=True)), x_start, y_start)


@register("PadGrad")
class PadGrad(Op):
    """inputs: dY; -> dX, zero where x was cropped."""

    halves = 1

    def bind(self, node: Node, b: Binder) -> None:
        dy, dx = b.value(node.inputs[0]), b.value(node.outputs[0])
        _move(b, dy, dx, [-begin for begin in node.attrs["begins"]], 0)
