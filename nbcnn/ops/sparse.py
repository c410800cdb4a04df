"""SparseAxes: sparse matrices applied along axes, which is what Gather, Resize and padding with copies come down to.

Its gradient is the same operator with the matrices transposed: each element of dx gathers what was made of it, in a
fixed order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder, Buffer
from nbcnn.graph import Node, Value
from nbcnn.ops.base import Op, Shaped, register
from nbcnn.ops.strided import has_kernel, memory_order

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["SparseAxes", "SparseMatrix", "set_matrices"]


@dataclass(frozen=True, eq=False)
class SparseMatrix:
    """A matrix (rows, size) in CSR form.

    starts (rows + 1,), columns (taps,) int64, weights (taps,) float64: row r has weights[k] in column columns[k] for k
    from starts[r] up to starts[r + 1].
    """

    size: int
    starts: np.ndarray
    columns: np.ndarray
    weights: np.ndarray

    @classmethod
    def from_taps(cls, size: int, columns: np.ndarray, weights: np.ndarray | None = None) -> SparseMatrix:
        """columns, weights (rows, taps), or columns (rows,) with weights of one; columns of -1 count as zero."""
        columns = columns[:, None] if columns.ndim == 1 else columns
        weights = np.ones(columns.shape) if weights is None else weights.reshape(columns.shape)
        kept = (weights != 0) & (columns >= 0)
        starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
        return cls(size, starts.astype(np.int64), columns[kept].astype(np.int64), weights[kept])

    @property
    def rows(self) -> int:
        return len(self.starts) - 1

    def transposed(self) -> SparseMatrix:
        """The matrix (size, rows); taps of a row stay in the order of their columns."""
        rows = np.repeat(np.arange(self.rows), np.diff(self.starts))
        order = np.argsort(self.columns, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(self.columns, minlength=self.size))])
        return SparseMatrix(self.rows, starts.astype(np.int64), rows[order].astype(np.int64), self.weights[order])

    def chooses(self) -> bool:
        """Whether no row mixes elements."""
        return bool((self.weights == 1).all() and (np.diff(self.starts) <= 1).all())

    def times(self, x: np.ndarray, axis: int, empty: float) -> np.ndarray:
        """The product along an axis of x, in NumPy; rows without weights become `empty`."""
        x, taps = np.moveaxis(x, axis, 0), np.diff(self.starts)
        y = np.zeros((self.rows, *x.shape[1:]), x.dtype)
        y[taps == 0] = empty
        for tap in range(max(taps, default=0)):
            rows = np.flatnonzero(taps > tap)
            at = self.starts[rows] + tap
            y[rows] += (x[self.columns[at]].T * self.weights[at].astype(x.dtype)).T
        return np.moveaxis(y, 0, axis)

    def is_identity(self) -> bool:
        one_each = np.array_equal(self.starts, np.arange(self.size + 1))
        return one_each and np.array_equal(self.columns, np.arange(self.size)) and bool((self.weights == 1).all())


def set_matrices(
    node: Node,
    dims: Sequence[int],
    matrices: Mapping[int, SparseMatrix],
    shape: Sequence[int] | None = None,
    empty: float = 0.0,
) -> None:
    """Make the node, but for its name, a SparseAxes of its first input.

    dims: the input's shape. matrices: by axis. shape: of the output (default: as the matrices make it). empty: what
    rows without weights become.
    """
    needed = {axis: matrix for axis, matrix in matrices.items() if not matrix.is_identity()}
    made = tuple(needed[axis].rows if axis in needed else n for axis, n in enumerate(dims))
    node.inputs = node.inputs[:1]
    node.attrs = {
        "dims": tuple(dims),
        "matrices": needed,
        "made": made,
        "shape": made if shape is None else tuple(shape),
        "empty": empty,
    }
    if not needed and node.attrs["shape"] == tuple(dims):
        node.op = "Identity"


@register("SparseAxes")
class SparseAxes(Op):
    """Attributes: those of set_matrices, and `made`, the output's shape before it is called `shape`."""

    halves = 1

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x and x.dtype
        return [(x.dtype, node.attrs["shape"])]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x = arrays[0]
        if x is None:
            return None
        attrs, y = node.attrs, x.reshape(node.attrs["dims"])
        if not _chooses(node) and x.dtype.kind in "iu":
            y = y.astype(np.float64)
        for axis, matrix in attrs["matrices"].items():
            y = matrix.times(y, axis, attrs["empty"])
        if y.dtype != x.dtype:
            limits = np.iinfo(x.dtype)
            y = y.round().clip(limits.min, limits.max).astype(x.dtype)
        return [y.reshape(attrs["shape"])]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        attrs = {
            "dims": node.attrs["made"],
            "matrices": {axis: matrix.transposed() for axis, matrix in node.attrs["matrices"].items()},
            "made": node.attrs["dims"],
            "empty": 0.0,
        }
        return [back.add("SparseAxes", [dy], like=node.inputs[0], attrs=attrs)]

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        assert x.dtype
        if x.dtype.kind != "f" and not (_chooses(node) and has_kernel(x.dtype)):
            super().bind(node, b)
            return
        order = memory_order(x.layout, len(node.attrs["dims"]))

        def rank(item: tuple[int, SparseMatrix]) -> tuple[float, int]:
            """What shrinks goes first, so that the other axes have less to do; of alikes, that which leaves the larger
            part of the work to the outer axis, along which whole lines are added.
            """
            growth, at = item[1].rows / max(item[1].size, 1), order.index(item[0])
            return growth, at if growth < 1 else -at

        pending = sorted(node.attrs["matrices"].items(), key=rank)
        if not pending:
            b.alias(y.name, x.name)
            return
        if not y.size:
            return
        shape = [node.attrs["dims"][axis] for axis in order]
        source = b.buffer(x.name)
        while pending:
            axis, matrix = pending.pop(0)
            at = order.index(axis)
            outer, inner = prod(shape[:at]), prod(shape[at + 1 :])
            shape[at] = matrix.rows
            target = b.scratch(prod(shape), x.dtype) if pending else b.buffer(y.name)
            _multiply(b, source, target, matrix, (outer, matrix.size, inner), x.dtype.type(node.attrs["empty"]))
            source = target


def _chooses(node: Node) -> bool:
    return all(matrix.chooses() for matrix in node.attrs["matrices"].values())


def _multiply(
    b: Binder, x: Buffer, y: Buffer, matrix: SparseMatrix, shape: tuple[int, int, int], empty: np.generic
) -> None:
    starts, columns = b.constant(matrix.starts), b.constant(matrix.columns)
    b.call("sparse_along_axis", x, y, starts, columns, b.constant(matrix.weights.astype(x.dtype)), shape, empty)
