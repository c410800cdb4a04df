"""Gather: slices of a tensor at constant positions along one axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.ops.axes import axis_of
from nbcnn.ops.base import Facts, register
from nbcnn.ops.sparse import SparseAxes, SparseMatrix, set_matrices


@register("Gather")
class Gather(SparseAxes):
    """ONNX opsets 1, 11 (negative indices), 13. Becomes SparseAxes; ONNX order is needed where the rank changes."""

    layout = "plain"
    activations = (0,)
    since = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        axis = axis_of(node, int(node.attrs.get("axis", 0)), len(x.dims))
        indices = facts.constant(node, 1, "the indices")
        if indices is None:
            raise ModelError(f"{node.label}: the indices are missing")
        size = x.dims[axis]
        if indices.size and not -size <= indices.min() <= indices.max() < size:
            raise ModelError(f"{node.label}: indices {indices.min()} to {indices.max()} leave an axis of {size}")
        matrix = SparseMatrix.from_taps(size, indices.reshape(-1).astype(np.int64) % max(size, 1))
        shape = (*x.dims[:axis], *indices.shape, *x.dims[axis + 1 :])
        if indices.ndim == 1:
            node.op = "SparseAxes"
        set_matrices(node, x.dims, {axis: matrix}, shape)
        node.attrs |= {"axis": axis, "indices": indices}

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x = arrays[0]
        return None if x is None else [x.take(node.attrs["indices"], node.attrs["axis"])]
