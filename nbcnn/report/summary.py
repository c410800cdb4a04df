"""A row for every layer of a network: shapes, parameters, multiply-adds, memory.

Memory is what the engine really keeps: a layer whose result is fused into its neighbour (an activation into its
convolution, and at inference a batch norm too) or that is a mere view of its input has none of its own, and its
neighbour's row counts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nbcnn.graph import Graph, Node, Value, is_float
from nbcnn.lower import lower_for_inference, lower_for_training
from nbcnn.passes.specialize import Mode, specialize
from nbcnn.report.arithmetic import multiply_adds
from nbcnn.report.borders import dropped_borders
from nbcnn.trainables import CARRIERS, trainable

__all__ = ["Row", "Summary", "summarize"]

VIEWS = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
EPILOGUES = ("Add", "BatchNormalization", "Clip", "Relu", "Sum")
"""What may be fused into the layer before it."""
STATISTICS = {"BatchNormalization": (3, 4)}
"""Inputs that are not parameters: running statistics, which no gradient changes."""


@dataclass(frozen=True)
class Row:
    """One layer.

    shape: of its first output. parameters, trained: numbers that it is the first to use, and how many of them
    training changes. weights: those of its parameters that are not biases (of more than one dimension). activations:
    numbers that it leaves in memory at inference. forward_bytes: the same in bytes; training_bytes: in a training
    step, with their gradients. note: pixels left out.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    parameters: int
    weights: int
    trained: int
    multiply_adds: int
    activations: int
    forward_bytes: int
    training_bytes: int
    note: str = ""


@dataclass(frozen=True)
class Summary:
    """All layers, and what belongs to none. input_values: numbers in the inputs; itemsize: bytes of one number."""

    inputs: dict[str, tuple[int, ...]]
    rows: list[Row]
    statistics: int
    itemsize: int

    @property
    def input_values(self) -> int:
        return sum(int(np.prod(shape)) for shape in self.inputs.values())

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def trained(self) -> int:
        return sum(row.trained for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        return sum(row.multiply_adds for row in self.rows)

    @property
    def activations(self) -> int:
        """Numbers in all activations, the inputs among them."""
        return self.input_values + sum(row.activations for row in self.rows)

    @property
    def forward_bytes(self) -> int:
        """All activations at once; the planned peak is lower, because memory is used again."""
        return self.input_values * self.itemsize + sum(row.forward_bytes for row in self.rows)

    @property
    def training_bytes(self) -> int:
        return self.input_values * self.itemsize + sum(row.training_bytes for row in self.rows)


def summarize(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    dtype: str = "float32",
    train: Sequence[str] = (),
    freeze: Sequence[str] = (),
) -> Summary:
    """Summarize a source graph for inputs of these shapes; no weight is touched and no kernel compiled.

    train, freeze: patterns, as the Trainer takes them. Raises UnsupportedError or ModelError, naming nodes.
    """
    kind = np.dtype(dtype)
    feeds = {value.name: (tuple(shapes[value.name]), value.dtype or kind) for value in graph.inputs}
    whole = specialize(graph, feeds, kind)
    weights = _Weights(graph, trainable(graph, train, freeze))
    inference = _kept(whole, lower_for_inference(graph, feeds, {}, kind))
    lowered = lower_for_training(graph, feeds, kind, graph.output_names(), Mode(True))
    training = _kept(specialize(graph, feeds, kind, mode=Mode(True)), lowered)
    moved = _depends(whole, weights.trained)
    source = {name: node for node in graph.nodes for name in node.outputs if name}
    rows = []
    for node in whole.nodes:
        if _rests_on_weights(node, weights.carried):
            continue
        value = whole.values[node.outputs[0]]
        parameters, large, trained = weights.take(node)
        activations = inference.get(node.outputs[0], 0)
        kept = training.get(node.outputs[0], 0) * (2 if node.outputs[0] in moved else 1)
        rows.append(
            Row(
                node.name or value.name,
                source[node.outputs[0]].op,
                value.dims,
                parameters,
                large,
                trained,
                multiply_adds(node, whole.values),
                activations,
                activations * kind.itemsize,
                kept * kind.itemsize,
                dropped_borders(source[node.outputs[0]], whole.values),
            )
        )
    return Summary({name: shape for name, (shape, _) in feeds.items()}, rows, weights.statistics, kind.itemsize)


class _Weights:
    """The float initializers of a network, handed out once each."""

    def __init__(self, graph: Graph, trained: Sequence[str]) -> None:
        self.trained = set(trained)
        self.left = {n: a for n, a in graph.initializers.items() if is_float(a.dtype)}
        self.carried = {name: name for name in graph.initializers}
        for node in graph.nodes:
            if node.op in CARRIERS and node.inputs[0] in self.carried:
                self.carried[node.outputs[0]] = self.carried[node.inputs[0]]
        self.statistics = 0

    def take(self, node: Node) -> tuple[int, int, int]:
        """Parameters that this node is the first to use: all, those of two dimensions and more, and those that are
        trained.
        """
        every = large = trained = 0
        for slot, name in enumerate(node.inputs):
            name = self.carried.get(name, "")
            array = self.left.pop(name, None)
            if array is None:
                continue
            if slot in STATISTICS.get(node.op, ()):
                self.statistics += array.size
                continue
            every += array.size
            large += array.size if array.ndim > 1 else 0
            trained += array.size if name in self.trained else 0
        return every, large, trained


def _rests_on_weights(node: Node, carried: Mapping[str, str]) -> bool:
    return all(name in carried for name in node.inputs if name)


def _depends(graph: Graph, names: set[str]) -> set[str]:
    """The values that a gradient by one of these weights flows through."""
    found = set(names)
    for node in graph.nodes:
        if not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return found


def _kept(whole: Graph, lowered: Graph) -> dict[str, int]:
    """First output of a node -> numbers that stay in memory on its account.

    A value that is left of several fused nodes counts for the one among them that the others were fused into.
    """
    written, producers = lowered.producers(), whole.producers()
    found: dict[str, int] = {}
    for name in written.keys() & producers.keys():
        node, value = producers[name], whole.values[name]
        if node.op in VIEWS:
            continue
        while node.op in EPILOGUES and node.op != written[name].op:
            before = _fused_input(node, producers, written)
            if before is None:
                break
            node = before
        found[node.outputs[0]] = found.get(node.outputs[0], 0) + _size(value)
    return found


def _fused_input(node: Node, producers: Mapping[str, Node], written: Mapping[str, Node]) -> Node | None:
    """The node whose result was merged into this one's, if there is one."""
    for name in filter(None, node.inputs):
        before = producers.get(name)
        if before is not None and name not in written and before.op not in VIEWS:
            return before
    return None


def _size(value: Value) -> int:
    return int(np.prod(value.dims, dtype=np.int64))
