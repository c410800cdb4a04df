"""From a forward graph to its backward graph: nodes that compute gradients, appended to the same graph.

Every operator adds the nodes of its own gradient. A value that has several readers gets the sum of what they hand
back, as an Add node. Gradients have their value's shape, type and layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nbcnn.graph import Graph, Node
from nbcnn.ops import lookup

__all__ = ["Backward", "differentiate"]


class Backward:
    """What an operator's `grad` uses to add nodes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []

    def add(self, op: str, inputs: list[str], like: str, attrs: dict[str, Any] | None = None, hint: str = "") -> str:
        """Add a node with one output that has the type, shape and layout of the value `like`; returns the output's
        name.
        """
        model = self.graph.values[like]
        name = self.graph.new_value(hint or f"{like}.grad", model.dtype, model.dims, model.layout)
        self.nodes.append(Node(op, inputs, [name], dict(attrs or {}), name=name))
        return name

    def node(self, op: str, inputs: list[str], outputs: list[str], attrs: dict[str, Any] | None = None) -> None:
        """Add a node whose outputs were declared with `Graph.new_value`."""
        self.nodes.append(Node(op, inputs, outputs, dict(attrs or {}), name=outputs[0]))

    def unclamp(self, node: Node, dy: str) -> tuple[str, str]:
        """dy where the output of a node is not held at a bound that was fused into it, zero elsewhere.

        Returns the gradient before the clamp twice: for the product, and for a residual that was added to it.
        """
        if "low" not in node.attrs:
            return dy, dy
        bounds = {"low": node.attrs["low"], "high": node.attrs["high"]}
        inner = self.add("ClampGrad", [node.outputs[0], dy], like=node.outputs[0], attrs=bounds)
        return inner, inner


def differentiate(graph: Graph, seeds: Mapping[str, str], targets: Iterable[str]) -> dict[str, str]:
    """Append the gradients by every target of the sum of seeded values; returns target -> name of its gradient.

    seeds: value -> the name of its gradient, a value of the graph with the same shape, type and layout (for a scalar
    loss: one). Targets that no seeded value depends on are left out. Raises UnsupportedError, naming the node, where
    an operator on the way cannot be trained through.
    """
    wanted = list(dict.fromkeys(targets))
    depends = set(wanted)
    for node in graph.nodes:
        if any(name in depends for name in node.inputs):
            depends.update(filter(None, node.outputs))
    back = Backward(graph)
    parts: dict[str, list[str]] = {name: [grad] for name, grad in seeds.items()}
    total: dict[str, str] = {}

    def gradient(name: str) -> str | None:
        """The gradient of a value all of whose readers have been visited."""
        if name not in total and name in parts:
            first, *others = parts.pop(name)
            for other in others:
                first = back.add("Add", [first, other], like=name)
            total[name] = first
        return total.get(name)

    for node in reversed(graph.nodes):
        need = [name in depends for name in node.inputs]
        dys = [gradient(name) if name else None for name in node.outputs]
        if not any(need) or not any(dys):
            continue
        grads = lookup(node).grad(node, back, dys, need)
        for name, needed, grad in zip(node.inputs, need, grads, strict=False):
            if needed and grad is not None:
                parts.setdefault(name, []).append(grad)
    found = {name: grad for name in wanted if (grad := gradient(name)) is not None}
    graph.nodes += back.nodes
    return found
