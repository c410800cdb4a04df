"""Gather, Compress, ReverseSequence, Tile: slices of a tensor at known positions along axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError, brief
from nbcnn.graph import Node, Value
from nbcnn.kernels import opcodes
from nbcnn.ops.axes import axis_of
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.indexed import Places, set_places
from nbcnn.ops.runs import Run, merged_runs, reduce_runs
from nbcnn.ops.sparse import SparseAxes, SparseMatrix, set_matrices
from nbcnn.ops.strided import copy, has_kernel, memory_order, strides

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

MOST_FOLDED = 1 << 26
"""Elements that a repeated constant may have when the plan is made; a larger one is made at every run."""


@register("Gather")
class Gather(SparseAxes):
    """ONNX opsets 1, 11 (negative indices), 13. Becomes SparseAxes where the indices are known, or GatherAt; ONNX order
    is needed where the rank changes.
    """

    layout = "plain"
    activations = (0,)
    since = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        x, places = facts.value(node, 0), facts.value(node, 1)
        axis = axis_of(node, int(node.attrs.get("axis", 0)), len(x.dims))
        shape = (*x.dims[:axis], *places.dims, *x.dims[axis + 1 :])
        indices = facts.constants.get(places.name)
        if indices is None:
            outer, inner, size = prod(x.dims[:axis]), prod(x.dims[axis + 1 :]), x.dims[axis]
            rows = places.size
            node.op = "GatherAt"
            where = Places((rows,), (0,), (size,), (inner,), outer, rows, inner, pitch=size * inner, shared=True)
            set_places(node, facts, where, shape)
        else:
            if indices.ndim == 1:
                node.op = "SparseAxes"
            _take(node, x.dims, axis, indices, shape)


def _take(node: Node, dims: tuple[int, ...], axis: int, indices: np.ndarray, shape: tuple[int, ...]) -> None:
    """Let the node take the elements at these positions of an axis."""
    size = dims[axis]
    if indices.size and not -size <= indices.min() <= indices.max() < size:
        raise ModelError(f"{node.label}: indices {indices.min()} to {indices.max()} leave an axis of {size}")
    matrix = SparseMatrix.from_taps(size, indices.reshape(-1).astype(np.int64) % max(size, 1))
    set_matrices(node, dims, {axis: matrix}, shape)


@register("Compress")
class Compress(SparseAxes):
    """ONNX opsets 9, 11: what a list of booleans marks, along an axis or (without one) of the flat input."""

    layout = "plain"
    activations = (0,)
    since = 9

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        marks = facts.constant(node, 1, "the condition")
        if marks is None or marks.ndim != 1:
            raise ModelError(f"{node.label}: the condition is no list of booleans")
        given = node.attrs.get("axis")
        axis = 0 if given is None else axis_of(node, int(given), len(x.dims))
        dims = (x.size,) if given is None else x.dims
        found = np.flatnonzero(marks)
        if found.size and found[-1] >= dims[axis]:
            raise ModelError(f"{node.label}: the condition marks element {found[-1]} of an axis of {dims[axis]}")
        _take(node, dims, axis, found, (*dims[:axis], found.size, *dims[axis + 1 :]))
        node.op = "Compress"


@register("Tile")
class Tile(Op):
    """ONNX opsets 6, 13 (opset 1: so many times along one axis): the input, so often along each axis. Normalized:
    repeats.
    """

    since = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        repeats = facts.ints(node, 1, "repeats", "the repeats")
        axis = facts.constant(node, 2, "the axis")
        if repeats is not None and axis is not None:
            (count,), at = repeats, axis_of(node, int(axis.reshape(())), len(x.dims))
            repeats = [count if k == at else 1 for k in range(len(x.dims))]
        if repeats is None or len(repeats) != len(x.dims) or min(repeats, default=0) < 0:
            raise ModelError(f"{node.label}: repeats {brief(repeats)} do not fit the input's shape {x.dims}")
        node.inputs = node.inputs[:1]
        node.attrs = {"repeats": tuple(repeats)}
        if set(repeats) <= {1}:
            node.op, node.attrs = "Identity", {"shape": x.dims}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x and x.dtype
        repeats = node.attrs.get("repeats", (1,) * len(x.dims))
        return [(x.dtype, tuple(n * times for n, times in zip(x.dims, repeats, strict=True)))]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x, repeats = arrays[0], node.attrs.get("repeats", ())
        if x is None or x.size * prod(repeats) > MOST_FOLDED:
            return None
        return [np.tile(x, repeats)]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        return [back.add("TileGrad", [dy], like=node.inputs[0], attrs=node.attrs)]

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        walks = zip(x.dims, node.attrs["repeats"], strides(x), strides(y), strict=True)
        copy(b, x, y, [axis for n, times, of, to in walks for axis in ((times, 0, n * to), (n, of, to))])


@register("TileGrad")
class TileGrad(Op):
    """inputs: dY -> dX: the sum over all the places that an element was repeated at."""

    def bind(self, node: Node, b: Binder) -> None:
        dy, dx, repeats = b.value(node.inputs[0]), b.value(node.outputs[0]), node.attrs["repeats"]
        parts = [
            Run(n, reduced)
            for k in memory_order(dx.layout, len(repeats))
            for n, reduced in ((repeats[k], True), (dx.dims[k], False))
        ]
        reduce_runs(b, opcodes.SUM, b.buffer(dy.name), b.buffer(dx.name), merged_runs(parts), 1.0)


@register("ReverseSequence")
class ReverseSequence(Op):
    """ONNX opset 10: the first sequence_lens[i] elements along time_axis of batch element i, backwards. Normalized:
    rows, the number of the row of the input that each row of the output is; two axes are outside of a row.
    """

    layout = "plain"
    activations = (0,)
    since = 10

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        lengths = facts.constant(node, 1, "the lengths")
        batch, time = int(node.attrs.get("batch_axis", 1)), int(node.attrs.get("time_axis", 0))
        if {batch, time} != {0, 1} or len(x.dims) < 2:
            raise ModelError(f"{node.label}: batch_axis {batch} and time_axis {time} are not 0 and 1 of {x.dims}")
        if lengths is None or lengths.shape != (x.dims[batch],):
            raise ModelError(f"{node.label}: needs a length for each of {x.dims[batch]} sequences")
        if lengths.size and not 0 <= lengths.min() <= lengths.max() <= x.dims[time]:
            raise ModelError(
                f"{node.label}: lengths {lengths.min()} to {lengths.max()} leave an axis of {x.dims[time]}"
            )
        steps, ends = np.arange(x.dims[time])[:, None], lengths.astype(np.int64)
        sources = np.where(steps < ends, ends - 1 - steps, steps)
        rows = sources * x.dims[batch] + np.arange(x.dims[batch])
        if batch == 0:
            rows = (sources + np.arange(x.dims[batch]) * x.dims[time]).T
        node.inputs = node.inputs[:1]
        node.attrs = {"rows": rows.reshape(-1)}

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x = arrays[0]
        return None if x is None else [x.reshape(-1, *x.shape[2:])[node.attrs["rows"]].reshape(x.shape)]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        return [back.add("ReverseSequence", [dy], like=node.inputs[0], attrs=node.attrs)]

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        assert x.dtype is not None
        if x.dtype.kind != "f":
            super().bind(node, b)
        elif x.size:
            length = prod(x.dims[2:])
            offsets = b.constant(node.attrs["rows"] * length)
            b.call("gather_rows", b.buffer(x.name), offsets, b.buffer(y.name), (1, x.size // length, length), 0, 0)


@register("ChannelShuffle")
class ChannelShuffle(Op):
    """inputs: X (N, C, ...) -> Y, X with its channels in another order (passes/shuffle.py). Attributes: order, the
    channel of X that each channel of Y is.
    """

    halves = 1

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        return None if arrays[0] is None else [arrays[0].take(node.attrs["order"], 1)]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        inverse = tuple(int(n) for n in np.argsort(node.attrs["order"]))
        return [back.add("ChannelShuffle", [dy], like=node.inputs[0], attrs={"order": inverse})]

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        assert x.dtype is not None
        if not has_kernel(x.dtype):
            super().bind(node, b)
            return
        images, channels, *spatial = x.dims
        pixels = prod(spatial)
        outer, length = (images * pixels, 1) if x.layout == "last" else (images, pixels)
        if x.size:
            offsets = b.constant(np.array(node.attrs["order"], np.int64) * length)
            shape = outer, channels, length
            b.call("gather_rows", b.buffer(x.name), offsets, b.buffer(y.name), shape, channels * length, 0)
