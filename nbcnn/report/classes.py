"""From a network's outputs to its most likely classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbcnn.errors import InputError

__all__ = ["Choice", "class_scores", "top_classes"]


@dataclass(frozen=True)
class Choice:
    """One class. score: the network's own number; probability: the same where it is one, else from softmax over all
    classes.
    """

    index: int
    label: str
    probability: float
    score: float


def class_scores(output: np.ndarray) -> np.ndarray | None:
    """The output (N, classes) or (N, classes, 1, ...) as float64 (N, classes); None for an output of another kind."""
    if output.ndim < 2 or output.dtype.kind != "f" or any(n != 1 for n in output.shape[2:]) or output.shape[1] < 2:
        return None
    return output.reshape(len(output), -1).astype(np.float64)


def top_classes(scores: np.ndarray, count: int, labels: Sequence[str] | None = None) -> list[list[Choice]]:
    """The `count` best classes of every row of scores (N, classes). Raises InputError when the labels are too few."""
    classes = scores.shape[1]
    if labels is not None and len(labels) != classes:
        raise InputError(f"there are {len(labels)} labels, but the network has {classes} classes")
    probabilities = scores if are_probabilities(scores) else softmax(scores)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return [
        [Choice(int(i), labels[i] if labels else "", float(p[i]), float(s[i])) for i in best]
        for best, p, s in zip(order, probabilities, scores, strict=True)
    ]


def are_probabilities(scores: np.ndarray) -> bool:
    """Whether every row is positive and sums to one, so far as float32 or float16 hold it."""
    return bool(np.all(scores >= 0) and np.all(np.abs(scores.sum(1) - 1) < 1e-2))


def softmax(scores: np.ndarray) -> np.ndarray:
    """exp(x) / sum(exp(x)) of every row."""
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
