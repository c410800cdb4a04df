"""What passes use that write one node as several."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from nbcnn.graph import Graph, Node

__all__ = ["Writer"]


class Writer:
    """Collects the rewritten nodes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []

    def dims(self, name: str) -> tuple[int, ...]:
        return self.graph.values[name].dims

    def node(
        self, op: str, inputs: list[str], shape: Iterable[int], of: Node, attrs: dict[str, Any], output: str = ""
    ) -> str:
        """Add a node that stands for a part of node `of`; returns its output, a new value unless it is named."""
        if not output:
            output = self.graph.new_value(f"{of.outputs[0]}.{op}", self.graph.values[inputs[0]].dtype, shape)
        self.nodes.append(Node(op, inputs, [output], attrs, name=of.name))
        return output

    def reshape(self, x: str, shape: tuple[int, ...], of: Node, output: str = "") -> str:
        if self.dims(x) == shape and not output:
            return x
        return self.node("Reshape", [x], shape, of, {"shape": shape}, output)

    def transpose(self, x: str, perm: tuple[int, ...], of: Node) -> str:
        if perm == tuple(range(len(perm))):
            return x
        dims = self.dims(x)
        return self.node("Transpose", [x], [dims[axis] for axis in perm], of, {"perm": perm})

    def constant(self, array: np.ndarray, like: str, of: Node) -> str:
        """A constant of the element type of a value."""
        dtype = self.graph.values[like].dtype
        name = self.graph.new_value(f"{of.outputs[0]}.constant", dtype, array.shape)
        self.graph.initializers[name] = array.astype(dtype)
        return name

    def scale(self, x: str, factor: float, of: Node) -> str:
        if factor == 1:
            return x
        return self.node("Mul", [x, self.constant(np.array(factor), x, of)], self.dims(x), of, {})
