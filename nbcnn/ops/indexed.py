"""Operators that read or write at places which the input data tell: GatherElements, GatherND, ScatterElements (Scatter
before opset 11), ScatterND; and Gather, where its indices are computed (take.py).

All of them come down to rows of neighbours in memory, and to one number for each that says where it begins. Indices out
of range are an error when the network runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcnn.binder import Binder, Buffer
from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.kernels import opcodes
from nbcnn.ops.axes import axis_of
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.scatter_grad import grads_of_extreme, grads_of_product
from nbcnn.ops.strided import copy, fill, strides

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["Places", "along_axis", "set_places"]

AXES = 6

REDUCTIONS = {
    "none": opcodes.PUT,
    "add": opcodes.ADD,
    "mul": opcodes.MUL,
    "max": opcodes.MAX,
    "min": opcodes.MIN,
}
UFUNCS = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


@dataclass(frozen=True)
class Places:
    """Where rows lie in a tensor, given tuples of indices of shape `grid` (without the tuples' own axis).

    sizes, strides: of the axes that a tuple's numbers count. moves: elements for each step along the grid. outer,
    rows, length: that many times, so many rows of so many neighbours. pitch: elements from one time to the next.
    shared: the tuples are the same every time.
    """

    grid: tuple[int, ...]
    moves: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    outer: int
    rows: int
    length: int
    pitch: int = 0
    shared: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.outer, self.rows, self.length

    def numbers(self, indices: np.ndarray, label: str) -> np.ndarray:
        """The numbers (outer, rows, length) of the elements in memory; raises ModelError for an index out of range."""
        sizes = np.array(self.sizes, np.int64)
        tuples = indices.reshape(-1, len(sizes)).astype(np.int64)
        tuples = np.where(tuples < 0, tuples + sizes, tuples)
        if ((tuples < 0) | (tuples >= sizes)).any():
            raise ModelError(_out_of_range(label, self))
        offsets = tuples @ np.array(self.strides, np.int64)
        if self.grid:
            offsets += sum(n * step for n, step in zip(np.indices(self.grid), self.moves, strict=True)).reshape(-1)
        at = offsets.reshape(1 if self.shared else self.outer, self.rows, 1)
        return at + np.arange(self.outer)[:, None, None] * self.pitch + np.arange(self.length)

    def bind(self, b: Binder, indices: str) -> tuple[Buffer, tuple[Any, ...]]:
        """Emit what turns indices into offsets; returns these, and how the rows lie."""
        assert b.node is not None
        spare = AXES - len(self.grid)
        offsets, bad = b.scratch(prod(self.grid), np.int64), b.scratch(1, np.int64)
        shape, moves = (*(1,) * spare, *self.grid), (*(0,) * spare, *self.moves)
        sizes, steps = (b.constant(np.array(v, np.int64)) for v in (self.sizes, self.strides))
        b.call("index_offsets", b.buffer(indices), offsets, bad, shape, moves, sizes, steps)
        message = _out_of_range(b.node.label, self)

        def check(bad: np.ndarray) -> None:
            if bad[0]:
                raise ModelError(message)

        b.check(check, bad)
        return offsets, (self.shape, self.pitch, 0 if self.shared else self.rows)


def _out_of_range(label: str, places: Places) -> str:
    return f"{label}: an index is outside of the axes it counts, of size {', '.join(map(str, places.sizes))}"


def set_places(node: Node, facts: Facts, places: Places, shape: Sequence[int]) -> None:
    """Settle a node that reads or writes at these places; shape: of its output."""
    known = facts.constants.get(node.inputs[1])
    if known is not None:
        places.numbers(known, node.label)
    node.attrs = {"places": places, "shape": tuple(shape), "reduction": node.attrs.get("reduction", "none")}


def _on_host(node: Node, b: Binder) -> bool:
    """Whether NumPy does it: anything but floats, and more axes than the kernel walks."""
    dtype = b.value(node.inputs[0]).dtype
    assert dtype is not None
    return dtype.kind != "f" or len(node.attrs["places"].grid) > AXES


@register("GatherAt")
class GatherAt(Op):
    """inputs: X, indices -> Y. Attributes: places, shape (of Y)."""

    layout = "plain"
    activations: tuple[int, ...] | None = (0, 1)

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x and x.dtype
        return [(x.dtype, node.attrs["shape"])]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x, indices = arrays
        if x is None or indices is None:
            return None
        return [x.reshape(-1)[node.attrs["places"].numbers(indices, node.label)].reshape(node.attrs["shape"])]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        return [back.add("GatherAtGrad", [node.inputs[1], dy], like=node.inputs[0], attrs=node.attrs), None]

    def bind(self, node: Node, b: Binder) -> None:
        if _on_host(node, b):
            super().bind(node, b)
        elif b.value(node.outputs[0]).size:
            offsets, how = node.attrs["places"].bind(b, node.inputs[1])
            b.call("gather_rows", b.buffer(node.inputs[0]), offsets, b.buffer(node.outputs[0]), *how)


@register("GatherAtGrad")
class GatherAtGrad(Op):
    """inputs: indices, dY -> dX: every row of dY added where it came from."""

    layout = "plain"

    def bind(self, node: Node, b: Binder) -> None:
        dx = b.value(node.outputs[0])
        fill(b, dx, 0)
        if b.value(node.inputs[1]).size:
            offsets, how = node.attrs["places"].bind(b, node.inputs[0])
            b.call("scatter_rows", opcodes.ADD, b.buffer(node.inputs[1]), offsets, b.buffer(dx.name), *how)


def along_axis(grid: tuple[int, ...], dims: tuple[int, ...], axis: int) -> Places:
    """The places of one index for each element of a grid, along an axis of a tensor of shape dims."""
    steps = [prod(dims[k + 1 :]) for k in range(len(grid))]
    moves = tuple(0 if k == axis else step for k, step in enumerate(steps))
    # What lies at different places of the first axis cannot meet, unless the indices are about that one.
    outer = grid[0] if axis else 1
    return Places(grid, moves, (dims[axis],), (steps[axis],), outer, prod(grid) // max(outer, 1), 1)


def _elements(node: Node, facts: Facts) -> tuple[Places, tuple[int, ...]]:
    """The places of GatherElements and ScatterElements, and the shape of the indices."""
    x, grid = facts.value(node, 0).dims, facts.value(node, 1).dims
    axis = axis_of(node, int(node.attrs.get("axis", 0)), len(x))
    if len(grid) != len(x) or any(n > m for k, (n, m) in enumerate(zip(grid, x, strict=True)) if k != axis):
        raise ModelError(f"{node.label}: indices of shape {grid} do not fit data of shape {x} along axis {axis}")
    return along_axis(grid, x, axis), grid


def _tuples(node: Node, facts: Facts, batch: int) -> tuple[Places, tuple[int, ...]]:
    """The places of GatherND and ScatterND: the last axis of the indices holds tuples. Returns the shape of what is
    read or written.
    """
    x, indices = facts.value(node, 0).dims, facts.value(node, 1).dims
    count = indices[-1] if indices else 0
    if not 0 <= batch < max(len(indices), 1) or not 0 < count <= len(x) - batch or x[:batch] != indices[:batch]:
        raise ModelError(f"{node.label}: indices of shape {indices} do not fit data of shape {x} (batch_dims={batch})")
    rest, outer = x[batch + count :], prod(x[:batch])
    steps = tuple(prod(x[batch + k + 1 :]) for k in range(count))
    rows = prod(indices[batch:-1])
    places = Places(
        (outer * rows,), (0,), x[batch : batch + count], steps, outer, rows, prod(rest), pitch=prod(x[batch:])
    )
    return places, (*indices[:-1], *rest)


@register("GatherElements")
class GatherElements(GatherAt):
    """ONNX opsets 11, 13."""

    since = 11

    def normalize(self, node: Node, facts: Facts) -> None:
        set_places(node, facts, *_elements(node, facts))


@register("GatherND")
class GatherND(GatherAt):
    """ONNX opsets 11, 12 (batch_dims), 13."""

    since = 11

    def normalize(self, node: Node, facts: Facts) -> None:
        set_places(node, facts, *_tuples(node, facts, int(node.attrs.get("batch_dims", 0))))


class _Scatter(Op):
    """inputs: data, indices, updates -> data with updates at the places. Normalized: places, shape, reduction."""

    layout = "plain"

    def normalize(self, node: Node, facts: Facts) -> None:
        places, written = self.places(node, facts)
        x, updates = facts.value(node, 0), facts.value(node, 2)
        if updates.dims != written:
            raise ModelError(f"{node.label}: updates of shape {updates.dims} where {written} are needed")
        if node.attrs.get("reduction", "none") not in REDUCTIONS:
            raise ModelError(f"{node.label}: reduction {node.attrs['reduction']!r} is none of {', '.join(REDUCTIONS)}")
        set_places(node, facts, places, x.dims)

    def places(self, node: Node, facts: Facts) -> tuple[Places, tuple[int, ...]]:
        raise NotImplementedError

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x, indices, updates = arrays
        if x is None or indices is None or updates is None:
            return None
        places, reduction = node.attrs["places"], node.attrs["reduction"]
        numbers, y = places.numbers(indices, node.label).reshape(-1), np.array(x).reshape(-1)
        if reduction == "none":
            y[numbers] = updates.reshape(-1)
        else:
            UFUNCS[reduction].at(y, numbers, updates.reshape(-1).astype(y.dtype))
        return [y.reshape(x.shape)]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        if node.attrs["reduction"] == "mul":
            return grads_of_product(node, back, dy, need)
        if node.attrs["reduction"] in ("max", "min"):
            return grads_of_extreme(node, back, dy, need)
        x, indices, updates = node.inputs
        found: list[str | None] = [None] * 3
        if need[0]:
            kept = node.attrs["reduction"] == "add"
            found[0] = dy if kept else back.add("ScatterAtClear", [dy, indices], like=x, attrs=node.attrs)
        if need[2]:
            shape = back.graph.values[updates].dims
            found[2] = back.add("GatherAt", [dy, indices], like=updates, attrs=node.attrs | {"shape": shape})
        return found

    def bind(self, node: Node, b: Binder) -> None:
        if _on_host(node, b):
            super().bind(node, b)
            return
        _write(b, node, node.inputs[0], node.inputs[1], node.inputs[2], REDUCTIONS[node.attrs["reduction"]])


def _write(b: Binder, node: Node, source: str, indices: str, updates: str, code: int) -> None:
    """y = the source with what is written at the places; the source's own memory where nobody else reads it."""
    x, y, places = b.value(source), b.value(node.outputs[0]), node.attrs["places"]
    if not b.in_place(y.name, x.name):
        whole = [(n, step, step) for n, step in zip(x.dims, strides(x), strict=True)]
        copy(b, x, y, whole, apart=True)
    if prod(places.shape):
        offsets, how = places.bind(b, indices)
        b.call("scatter_rows", code, b.optional(updates), offsets, b.buffer(y.name), *how)


@register("ScatterAtClear")
class ScatterAtClear(Op):
    """inputs: dY, indices -> dX: dY, and 0 where something else was written."""

    layout = "plain"

    def bind(self, node: Node, b: Binder) -> None:
        _write(b, node, node.inputs[0], node.inputs[1], "", opcodes.CLEAR)


@register("Scatter", "ScatterElements")
class ScatterElements(_Scatter):
    """ONNX opsets 9 (Scatter), 11, 13, 16 (reduction), 18 (max, min). With reduction "none" the last one of updates for
    one element stays.
    """

    since = 9
    alike = (0, 2)

    def places(self, node: Node, facts: Facts) -> tuple[Places, tuple[int, ...]]:
        return _elements(node, facts)


@register("ScatterND")
class ScatterND(_Scatter):
    """ONNX opsets 11, 13, 16 (reduction), 18 (max, min)."""

    since = 11
    alike = (0, 2)

    def places(self, node: Node, facts: Facts) -> tuple[Places, tuple[int, ...]]:
        return _tuples(node, facts, 0)
