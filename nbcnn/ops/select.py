"""Operators whose outputs' shapes depend on the data: NonZero, Unique, NonMaxSuppression. What they read has to be
known when the plan is made, so a run computes that first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.ops.axes import axis_of
from nbcnn.ops.base import Facts, Op, register


class _Known(Op):
    """Normalized: no inputs; attribute `arrays`, the outputs."""

    differentiable = False

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        return node.attrs["arrays"]

    @staticmethod
    def settle(node: Node, *arrays: np.ndarray) -> None:
        node.inputs, node.attrs = [], {"arrays": list(arrays)}


@register("NonZero")
class NonZero(_Known):
    """ONNX opsets 9, 13: the positions (rank, count) int64 of what is not zero, in order."""

    since = 9

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.constant(node, 0, "the input")
        if x is None:
            raise ModelError(f"{node.label}: the input is missing")
        # A single number has no axes, and yet NumPy would count one.
        found = np.array(np.nonzero(x)) if x.ndim else np.zeros((0, int(x.any())))
        self.settle(node, found.astype(np.int64))


@register("Unique")
class Unique(_Known):
    """ONNX opset 11: the different elements (or, with `axis`, slices), sorted or as they first occur; where each first
    occurs, which of them every element is, how often it occurs.
    """

    since = 11

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.constant(node, 0, "the input")
        if x is None:
            raise ModelError(f"{node.label}: the input is missing")
        axis = node.attrs.get("axis")
        axis = None if axis is None else axis_of(node, int(axis), x.ndim)
        values, first, inverse, counts = np.unique(x, True, True, True, axis=axis)
        inverse = inverse.reshape(-1)
        if not node.attrs.get("sorted", 1):
            order = np.argsort(first)
            values, first, counts = values.take(order, axis), first[order], counts[order]
            inverse = np.argsort(order)[inverse]
        self.settle(node, values, *(a.astype(np.int64) for a in (first, inverse, counts)))


@register("NonMaxSuppression")
class NonMaxSuppression(_Known):
    """ONNX opsets 10, 11: boxes (batch, count, 4), scores (batch, classes, count) -> (selected, 3) int64: batch, class
    and number of each box that is kept. Of boxes that share more than iou_threshold of their union the best one stays.
    """

    since = 10

    def normalize(self, node: Node, facts: Facts) -> None:
        boxes, scores = facts.constant(node, 0, "the boxes"), facts.constant(node, 1, "the scores")
        if boxes is None or scores is None or boxes.ndim != 3 or scores.ndim != 3 or boxes.shape[2] != 4:
            raise ModelError(f"{node.label}: needs boxes (batch, count, 4) and scores (batch, classes, count)")
        if scores.shape[0] != boxes.shape[0] or scores.shape[2] != boxes.shape[1]:
            raise ModelError(f"{node.label}: boxes {boxes.shape} and scores {scores.shape} do not fit together")
        most, shared, least = (facts.constant(node, k, "a threshold") for k in (2, 3, 4))
        limit = 0 if most is None else int(most.reshape(()))
        overlap = 0.0 if shared is None else float(shared.reshape(()))
        bound = None if least is None else float(least.reshape(()))
        found = [
            (batch, kind, box)
            for batch in range(scores.shape[0])
            for kind in range(scores.shape[1])
            for box in _best(
                _corners(boxes[batch], bool(node.attrs.get("center_point_box", 0))),
                scores[batch, kind],
                limit,
                overlap,
                bound,
            )
        ]
        self.settle(node, np.array(found, np.int64).reshape(-1, 3))


def _corners(boxes: np.ndarray, centered: bool) -> np.ndarray:
    """Boxes (count, 4) as the least and the greatest two coordinates; given so, in any order, or as center and size."""
    if centered:
        half = boxes[:, 2:] / 2
        return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], 1)
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    return np.concatenate([low, high], 1)


def _best(boxes: np.ndarray, scores: np.ndarray, limit: int, overlap: float, bound: float | None) -> list[int]:
    """At most `limit` boxes, the best score first, none of which shares more than `overlap` with one before it."""
    order = np.argsort(-scores, kind="stable")
    if bound is not None:
        order = order[scores[order] > bound]
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept: list[int] = []
    while order.size and len(kept) < limit:
        box, order = order[0], order[1:]
        kept.append(int(box))
        low, high = np.maximum(boxes[order, :2], boxes[box, :2]), np.minimum(boxes[order, 2:], boxes[box, 2:])
        common = np.prod(np.maximum(high - low, 0), axis=1)
        union = areas[order] + areas[box] - common
        order = order[common <= overlap * union]
    return kept
