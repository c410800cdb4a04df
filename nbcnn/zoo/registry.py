"""The list of networks, and how a function that builds a graph becomes one that returns a Model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from nbcnn.errors import InputError
from nbcnn.graph import Graph

if TYPE_CHECKING:
    from nbcnn.model import Model

__all__ = ["BUILDERS", "graph_of", "network"]

P = ParamSpec("P")

BUILDERS: dict[str, Callable[..., Graph]] = {}
"""Name -> function that builds the graph."""


def network(build: Callable[P, Graph]) -> Callable[P, Model]:
    """List a function that builds a graph, and make of it one with the same arguments that returns a Model."""

    @wraps(build)
    def make(*args: P.args, **options: P.kwargs) -> Model:
        from nbcnn.model import Model

        return Model(build(*args, **options))

    BUILDERS[build.__name__] = build
    # help() would follow the wrapped function and promise a Graph.
    make.__signature__ = inspect.signature(build).replace(return_annotation="Model")  # type: ignore[attr-defined]
    return make


def graph_of(name: str, **options: Any) -> Graph:
    """The graph of a network, such as graph_of("resnet18", classes=10). Raises InputError for an unknown name."""
    if name not in BUILDERS:
        raise InputError(f"the zoo has no network called {name!r}: use one of {', '.join(BUILDERS)}")
    return BUILDERS[name](**options)
