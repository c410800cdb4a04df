"""A Case whose activations come out of a convolution (by the identity), so that they lie channels last in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from harness import Case

from nbcnn.graph import Graph, Node
from nbcnn.parameter import Parameter


@dataclass
class ChannelsLast(Case):
    """Each fed float input of 3 to 5 dimensions, none of size 0, goes through a convolution that changes nothing."""

    def _activations(self) -> dict[int, np.ndarray]:
        fed = {k: a for k, a in enumerate(self.inputs) if a is not None and k not in self.weights}
        return {k: a for k, a in fed.items() if a.dtype.kind == "f" and 3 <= a.ndim <= 5}

    def _identity(self, a: np.ndarray) -> np.ndarray:
        return np.eye(a.shape[1], dtype=a.dtype).reshape(a.shape[1], a.shape[1], *(1,) * (a.ndim - 2))

    def graph(self) -> Graph:
        graph = super().graph()
        for k, a in self._activations().items():
            graph.initializers[f"eye{k}"] = self._identity(a)
            graph.nodes[-1].inputs[k] = f"c{k}"
            graph.nodes.insert(0, Node("Conv", [f"i{k}", f"eye{k}"], [f"c{k}"]))
        return graph

    def parameters(self) -> dict[str, Parameter]:
        made = {
            k: Parameter(f"eye{k}", self._identity(a), np.dtype(self.dtype)) for k, a in self._activations().items()
        }
        return super().parameters() | {p.name: p for p in made.values()}
