"""A function of one quantized value is a table of 256 bytes.

Rules:
1. where QuantizeLinear reads what activations, Clip and arithmetic make of the bytes of one DequantizeLinear, and of
   single numbers that need no input data, the same nodes work out the table, of the 256 bytes there are; what is left
   to do is LookUp. They rest on weights alone, so they run once;
2. that may be no activation at all: DequantizeLinear and QuantizeLinear with another scale;
3. a function of a function is one of its source, also where bytes lie between: x * sigmoid(x), say, whose sigmoid is
   quantized, too.

Who else reads the floats still finds them. What is computed is the same as without a table, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbcnn.graph import Graph, Node
from nbcnn.ops.activations import PROGRAMS
from nbcnn.ops.arithmetic import CODES
from nbcnn.ops.elementwise import SPECS
from nbcnn.ops.quantized import BYTE
from nbcnn.ops.trigonometry import FUNCTIONS

__all__ = ["tabulate"]

ELEMENTWISE = {*SPECS, *PROGRAMS, *FUNCTIONS, *CODES, "Clip", "PRelu"}
ENTRIES = 256
MOST_NODES = 64


@dataclass(frozen=True)
class _Function:
    """The bytes that a value is a function of, and the ids of the nodes from there to it."""

    source: str
    nodes: frozenset[int]


class _Tabulator:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers, self.fixed = graph.producers(), graph.constants()
        self.found: dict[str, _Function] = {}

    def is_plain(self, node: Node) -> bool:
        """Whether a Quantize- or DequantizeLinear has one scale, which needs no input data."""
        names = list(filter(None, node.inputs[1:]))
        return all(name in self.fixed and self.graph.values[name].size == 1 for name in names)

    def function(self, quantize: Node) -> _Function | None:
        """Rule 1; None where there is something else."""
        values, dims = self.graph.values, self.graph.values[quantize.inputs[0]].dims
        source, nodes, left = "", {id(quantize)}, [quantize.inputs[0]]
        while left:
            name = left.pop()
            node = self.producers.get(name)
            if name in self.fixed and values[name].dims in ((), (1,)):
                continue
            if node is None or values[name].dims != dims:
                return None
            if node.op in ELEMENTWISE:
                left += filter(None, node.inputs if id(node) not in nodes else ())
                nodes.add(id(node))
                continue
            if node.op != "DequantizeLinear" or values[node.inputs[0]].dtype != BYTE or not self.is_plain(node):
                return None
            before = self.found.get(node.inputs[0], _Function(node.inputs[0], frozenset()))
            if source not in ("", before.source):
                return None
            source = before.source
            nodes |= {id(node), *before.nodes}
        return _Function(source, frozenset(nodes)) if source and len(nodes) <= MOST_NODES else None

    def table(self, quantize: Node, function: _Function) -> list[Node]:
        """The nodes that take the place of a QuantizeLinear."""
        values, y = self.graph.values, quantize.outputs[0]
        every = self.graph.new_value(f"{y}.every", BYTE, (ENTRIES,))
        self.graph.initializers[every] = np.arange(ENTRIES, dtype=BYTE)
        entries = {function.source: every}
        made: list[Node] = []
        for node in self.graph.nodes:
            if id(node) in function.nodes:
                name, dtype = node.outputs[0], values[node.outputs[0]].dtype
                inputs = [entries.get(given, given) for given in node.inputs]
                entries[name] = self.graph.new_value(f"{y}.table", dtype, (ENTRIES,))
                made.append(Node(node.op, inputs, [entries[name]], dict(node.attrs), node.name))
        return [*made, Node("LookUp", [function.source, entries[y]], [y], {}, quantize.name)]


def tabulate(graph: Graph) -> None:
    made: dict[int, list[Node]] = {}
    tabulator = _Tabulator(graph)
    for node in graph.nodes:
        if node.op == "QuantizeLinear" and node.attrs["to"] == BYTE and tabulator.is_plain(node):
            function = tabulator.function(node)
            if function is not None:
                tabulator.found[node.outputs[0]] = function
                made[id(node)] = tabulator.table(node, function)
    if made:
        graph.nodes = [new for node in graph.nodes for new in made.get(id(node), [node])]
        graph.prune()
