"""Dropout (ONNX opsets 1, 6, 7, 10, 12, 13, 22): nothing at inference; while training, a random share of the elements
is set to zero.

The trainer's random numbers come from the seed and the step in the graph's array `nbcnn.rng`, the node, and the
element's place; they are made again for the gradient instead of being kept. A network that says training_mode is run
so too, but for a node with a seed of its own: its numbers are those of onnx's reference evaluator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError
from nbcnn.graph import Graph, Node, Value
from nbcnn.ops.base import Facts, Op, Shaped, register

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["RANDOM", "Dropout"]

RANDOM = "nbcnn.rng"
"""The value that holds seed and step, int64 (2): an initializer of zeros unless the trainer puts its own there."""


def _random_state(graph: Graph) -> str:
    if RANDOM not in graph.values:
        graph.initializers[RANDOM] = np.zeros(2, np.int64)
        graph.values[RANDOM] = Value(RANDOM, np.dtype(np.int64), (2,))
    return RANDOM


@register("Dropout")
class Dropout(Op):
    """X, ratio or none, training_mode or none -> Y, mask (bool, optional).

    Normalized: Identity where it is not active; else inputs X and the random state, attributes ratio and stream.
    """

    activations = (0,)
    since = 1
    halves = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        ratio = self._ratio(node, facts)
        active = ratio > 0 and (facts.train or self._training_mode(node, facts))
        if active and "seed" in node.attrs and not facts.train:
            self._draw_as_the_evaluator(node, facts, ratio, int(node.attrs["seed"]))
            return
        if active:
            seed = node.attrs.get("seed", 0)
            stream = crc32(f"{node.outputs[0]} {seed}".encode())
            node.inputs = [node.inputs[0], _random_state(facts.graph)]
            node.attrs = {"ratio": ratio, "stream": stream}
            return
        x, mask = facts.value(node, 0), node.output(1)
        if mask:  # everything is kept
            facts.define(mask, np.ones(x.dims, np.bool_))
        node.op, node.attrs = "Identity", {"shape": x.dims}
        node.inputs, node.outputs = node.inputs[:1], node.outputs[:1]

    @staticmethod
    def _draw_as_the_evaluator(node: Node, facts: Facts, ratio: float, seed: int) -> None:
        """The mask is the same at every run, and what is left is a product."""
        x, mask = facts.value(node, 0), node.output(1)
        kept = np.random.RandomState(seed).uniform(0, 1.0, x.dims) >= ratio
        if mask:
            facts.define(mask, kept)
        factor = facts.graph.fresh(f"nbcnn.{node.outputs[0]}.mask")
        facts.define(factor, np.where(kept, 1 / (1 - ratio), 0).astype(x.dtype))
        node.op, node.attrs = "Mul", {}
        node.inputs, node.outputs = [x.name, factor], node.outputs[:1]

    @staticmethod
    def _ratio(node: Node, facts: Facts) -> float:
        given = facts.constant(node, 1, "the ratio")
        ratio = float(node.attrs.get("ratio", 0.5) if given is None else given.item())
        if not 0 <= ratio < 1:
            raise ModelError(f"{node.label}: the ratio {ratio} is not in [0, 1)")
        return ratio

    @staticmethod
    def _training_mode(node: Node, facts: Facts) -> bool:
        given = facts.constant(node, 2, "training_mode")
        return given is not None and bool(given.item())

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x and x.dtype
        return [(x.dtype, x.dims), (np.dtype(np.bool_), x.dims)][: len(node.outputs)]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        if dys[0] is None:
            return [None]
        return [back.add("Dropout", [dys[0], node.inputs[1]], like=node.inputs[0], attrs=node.attrs)]

    def bind(self, node: Node, b: Binder) -> None:
        ratio, mask = node.attrs["ratio"], node.output(1)
        b.in_place(node.outputs[0], node.inputs[0])
        b.call(
            "dropout",
            b.buffer(node.inputs[0]),
            b.buffer(node.outputs[0]),
            b.buffer(mask) if mask else b.empty(np.bool_),
            b.buffer(node.inputs[1]),
            node.attrs["stream"],
            round(ratio * 2**32),
            b.dtype.type(1 / (1 - ratio)),
        )
