"""Class names in a model's metadata: what `nbcnn train` and new heads write, and `nbcnn infer` shows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

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


def remember_labels(graph: Graph, labels: Iterable[str] | None) -> None:
    """Write the class names; None removes those that are there. Raises InputError for what are no names."""
    if labels is None:
        graph.metadata.pop(LABELS, None)
        return
    names = [] if isinstance(labels, str | bytes | Mapping) or not isinstance(labels, Iterable) else list(labels)
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"labels takes a list of class names, not {labels!r}")
    graph.metadata[LABELS] = json.dumps([str(name) for name in names])
