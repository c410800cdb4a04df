"""Class names in a model's metadata: what `nbcnn train` and new heads write, and `nbcnn infer` shows."""

from __future__ import annotations

import json
from collections.abc import Sequence

from nbcnn.errors import InputError, ModelError
from nbcnn.graph import Graph

__all__ = ["LABELS", "remember_labels", "remembered_labels"]

LABELS = "nbcnn.labels"
"""The metadata key, whose value is a JSON list."""


def remembered_labels(graph: Graph) -> list[str] | None:
    """The class names that the model knows, in the order of the classes, None when it knows none.

    Raises ModelError when they cannot be read.
    """
    if LABELS not in graph.metadata:
        return None
    try:
        labels = json.loads(graph.metadata[LABELS])
    except ValueError:
        labels = None
    if not isinstance(labels, list):
        raise ModelError(f"the metadata {LABELS} is not a JSON list: correct or remove it")
    return [str(label) for label in labels]


def remember_labels(graph: Graph, labels: Sequence[str] | None) -> None:
    """Write the class names; None removes those that are there. Raises InputError for what are no names."""
    if labels is None:
        graph.metadata.pop(LABELS, None)
        return
    if not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
        raise InputError(f"labels takes a list of class names, not {labels!r}")
    graph.metadata[LABELS] = json.dumps(list(labels))
