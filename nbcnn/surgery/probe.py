"""What shapes a network's values have for given inputs, told without running it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.graph import Graph, Node, Value, is_float
from nbcnn.guesses import PICTURE, channels
from nbcnn.passes.specialize import Mode, Sweep

__all__ = ["Shapes", "declare", "shapes_of", "sizes"]

Shapes = dict[str, Value]
"""The values that could be told, by name, with their shapes in numbers."""


def sizes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """A shape in numbers for every input: what the file says, and usual sizes for what it leaves open.

    Raises ModelError for an input of unknown rank.
    """
    found = {}
    for value in graph.inputs:
        if value.shape is None:
            raise ModelError(
                f"the file says nothing of the shape of input {value.name!r}, which must be known for this"
            )
        usual = {0: 1, 1: channels(graph, value.name)}
        found[value.name] = tuple(
            d if isinstance(d, int) else usual.get(axis, PICTURE) for axis, d in enumerate(value.shape)
        )
    return found


def shapes_of(
    graph: Graph, inputs: Mapping[str, tuple[int, ...]], before: Callable[[Node, Shapes], None] | None = None
) -> Shapes:
    """All values whose shapes follow from those of the inputs; where they depend on what is fed, or on an operator that
    the engine does not have, they are left out.

    before: is called with each node of `graph`, and the values known so far, before the node is looked at; it may
    change the node and the initializers. Raises ModelError where shapes do not fit.
    """
    lowered = replace(graph.copy(), values={}, initializers={}, nodes=[])
    sweep = Sweep(graph, lowered, np.dtype(np.float32), Mode())
    entered: dict[str, np.ndarray] = {}

    def enter() -> None:
        for name, array in graph.initializers.items():
            if entered.get(name) is not array:
                sweep.constant(name, array, weight=is_float(array.dtype))
                entered[name] = array

    for value in graph.inputs:
        dtype = np.dtype(np.float32) if value.dtype is None else value.dtype
        lowered.values[value.name] = Value(value.name, dtype, inputs[value.name])
    for node in list(graph.nodes):
        enter()
        if before is not None:
            before(node, lowered.values)
            enter()
        if any(name and name not in lowered.values for name in node.inputs):
            continue
        try:
            sweep.visit(replace(node, inputs=list(node.inputs), outputs=list(node.outputs), attrs=dict(node.attrs)))
        except UnsupportedError:
            continue
    return lowered.values


def declare(values: Iterable[Value], few: Shapes, many: Shapes) -> None:
    """Bring the declared shapes of values up to date, from those at two sizes of the inputs: what differs is open."""
    for value in values:
        if value.shape is None or value.name not in few or value.name not in many:
            continue
        sides = few[value.name].dims, many[value.name].dims
        value.shape = tuple(a if a == b else None for a, b in zip(*sides, strict=True))
