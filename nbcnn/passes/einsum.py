"""Write Einsum on floats as transposes and products of matrices.

Rules:
1. of an index that a term names twice, the diagonal is taken; an axis of size 1 where the index has more elements is
left out; an index that only one term names, and the output does not, is summed;
2. the operands are brought together from the left, two at a time. Indices that both have and nobody else needs are
summed by MatMul, others that both have number the matrices of a stack; where there is nothing to sum it is Mul;
3. the axes of the last result are put in the output's order.
"""

from __future__ import annotations

from collections.abc import Container
from math import prod

from nbcnn.graph import Graph, Node
from nbcnn.ops.einsum import Labels
from nbcnn.passes.writer import Writer

__all__ = ["expand_einsum"]


def expand_einsum(graph: Graph) -> None:
    writer = Writer(graph)
    for node in graph.nodes:
        dtype = graph.values[node.outputs[0]].dtype if node.op == "Einsum" else None
        if dtype is not None and dtype.kind == "f":
            _Expansion(node, writer).run()
        else:
            writer.nodes.append(node)
    graph.nodes = writer.nodes


class _Expansion:
    """One Einsum. Operands are names of values with a label for each axis."""

    def __init__(self, node: Node, writer: Writer) -> None:
        self.node, self.writer = node, writer
        self.sizes: dict[str, int] = node.attrs["sizes"]
        self.result: Labels = node.attrs["result"]

    def shape(self, labels: Labels) -> tuple[int, ...]:
        return tuple(self.sizes[label] for label in labels)

    def run(self) -> None:
        operands = [self.single(x, term) for x, term in zip(self.node.inputs, self.node.attrs["terms"], strict=True)]
        counts = {label: sum(label in labels for _, labels in operands) for label in self.sizes}
        alone = {label for label, count in counts.items() if count == 1 and label not in self.result}
        operands = [self.summed(x, labels, alone) for x, labels in operands]
        first, *others = operands
        for index, other in enumerate(others):
            later = {label for _, labels in others[index + 1 :] for label in labels}
            first = self.pair(*first, *other, later | set(self.result))
        x, labels = first
        x = self.writer.transpose(x, tuple(labels.index(label) for label in self.result), self.node)
        self.writer.reshape(x, self.shape(self.result), self.node, self.node.outputs[0])

    # --- rule 1

    def single(self, x: str, labels: Labels) -> tuple[str, Labels]:
        """Every label once, and of its full size."""
        dims = self.writer.dims(x)
        kept = [k for k, label in enumerate(labels) if dims[k] == self.sizes[label]]
        labels = tuple(labels[k] for k in kept)
        x = self.writer.reshape(x, tuple(dims[k] for k in kept), self.node)
        once = tuple(dict.fromkeys(labels))
        if len(once) < len(labels):
            axes = tuple(once.index(label) for label in labels)
            x = self.writer.node("EinsumDiagonal", [x], self.shape(once), self.node, {"axes": axes})
        return x, once

    def summed(self, x: str, labels: Labels, alone: Container[str]) -> tuple[str, Labels]:
        axes = tuple(k for k, label in enumerate(labels) if label in alone)
        left = tuple(label for label in labels if label not in alone)
        if axes:
            attrs = {"axes": axes, "keepdims": False}
            x = self.writer.node("ReduceSum", [x], self.shape(left), self.node, attrs)
        return x, left

    # --- rule 2

    def pair(self, a: str, left: Labels, b: str, right: Labels, needed: Container[str]) -> tuple[str, Labels]:
        both = [label for label in left if label in right]
        stack = tuple(label for label in both if label in needed)
        inner = tuple(label for label in both if label not in needed)
        rows = tuple(label for label in left if label not in both)
        columns = tuple(label for label in right if label not in both)
        n, m, k, p = (prod(self.shape(labels)) for labels in (stack, rows, inner, columns))
        several = (n,) if stack or not inner else ()
        a = self.ordered(a, left, stack + rows + inner, (*several, m, k))
        b = self.ordered(b, right, stack + inner + columns, (*several, k, p))
        x = self.writer.node("MatMul" if inner else "Mul", [a, b], (*several, m, p), self.node, {})
        labels = stack + rows + columns
        return self.writer.reshape(x, self.shape(labels), self.node), labels

    def ordered(self, x: str, labels: Labels, order: Labels, shape: tuple[int, ...]) -> str:
        x = self.writer.transpose(x, tuple(labels.index(label) for label in order), self.node)
        return self.writer.reshape(x, shape, self.node)
