"""Let neighbours that work element by element become one node, which reads its tensors once and writes once.

Rules:
1. *links* are activations, Clip, and arithmetic of two operands, on floats of one shape; an operand may also be a
   single number that needs no input data;
2. a link takes in the link before it, if nobody else reads what that one puts out, while no more than two tensors are
   read in all;
3. two links or more become a `Chain`: a program of the element-wise kernel. Numbers that are weights reach it through
   `ChainConstants`, a node that rests on weights alone, so that a new value has its effect;
4. tanh(softplus(x)) is one step, with one exponential instead of two and a logarithm;
5. where a network is trained, a chain reads one tensor, because its gradient reads that of its result too, and numbers
   that are trained stay outside;
6. Gelu, Swish, Mish and HardSwish, however they are spelled, are one step each (recognize.py).

What has become part of a convolution's or a sum's own clamp (fuse.py) is no link any more.
"""

from __future__ import annotations

import math
from collections.abc import Container

from nbcnn.graph import Graph, Node, is_float
from nbcnn.kernels import opcodes
from nbcnn.ops.activations import PROGRAMS
from nbcnn.ops.arithmetic import CODES
from nbcnn.ops.elementwise import SPECS, chain_nodes
from nbcnn.ops.program import TENSORS, Number, Program
from nbcnn.passes.recognize import recognize

__all__ = ["fuse_chains"]

PAIRS = {op: opcodes.PAIR + CODES[op] for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")}
POWERS = (2.0, 3.0)
MOST_LINKS = 32


class _Numbers:
    """Which values are single numbers that need no input data: `known` ones, and others that rest on weights, but on
    none that is trained.
    """

    def __init__(self, graph: Graph, weights: Container[str], trained: Container[str]) -> None:
        self.fixed = set(graph.initializers)
        moving = {name for name in self.fixed if name in trained}
        for node in graph.nodes:
            if node.inputs and all(name in self.fixed for name in filter(None, node.inputs)):
                self.fixed.update(filter(None, node.outputs))
            if not moving.isdisjoint(node.inputs):
                moving.update(filter(None, node.outputs))
        self.single = {name for name in self.fixed if graph.values[name].size == 1 and name not in moving}
        self.known = {
            name: float(graph.initializers[name].reshape(()))
            for name in self.single
            if name in graph.initializers and name not in weights and is_float(graph.values[name].dtype)
        }


class _Wiring:
    """Who writes and reads what, and the order of the nodes, by id."""

    def __init__(self, graph: Graph) -> None:
        self.producers, self.readers = graph.producers(), graph.consumers()
        self.outputs = set(graph.output_names())
        self.place = {id(node): index for index, node in enumerate(graph.nodes)}


def fuse_chains(graph: Graph, weights: Container[str] = (), trained: Container[str] | None = None) -> None:
    """weights: the initializers whose values may change; trained: those that a training step changes, None where the
    graph is not for training.
    """
    numbers = _Numbers(graph, weights, trained or ())
    most_tensors = len(TENSORS) if trained is None else 1
    links = {id(node) for node in graph.nodes if _is_link(node, graph, numbers)}
    wiring = _Wiring(graph)
    taken: set[int] = set()
    made: dict[int, list[Node]] = {}
    for node in reversed(graph.nodes):
        if id(node) not in links or id(node) in taken:
            continue
        members = _grown(node, links - taken, wiring, numbers, most_tensors)
        if len(members) > 1:
            taken |= {id(n) for n in members}
            made[id(node)] = _chain(members, graph, numbers)
    graph.nodes = [new for node in graph.nodes for new in made.get(id(node), [] if id(node) in taken else [node])]
    graph.sort()


def _is_link(node: Node, graph: Graph, numbers: _Numbers) -> bool:
    """Rule 1."""
    if not any(node.op in ops for ops in (SPECS, PROGRAMS, PAIRS, ("Clip", "Pow"))):
        return False
    y = graph.values[node.outputs[0]]
    tensors = [name for name in node.inputs if name not in numbers.single]
    if not tensors or len(node.inputs) > 2 or y.dtype is None or y.dtype.kind != "f":
        return False
    if node.op == "Pow" and (node.inputs[0] not in tensors or numbers.known.get(node.inputs[1]) not in POWERS):
        return False
    return all(name not in numbers.fixed and graph.values[name].dims == y.dims for name in tensors)


def _tensors(nodes: list[Node], numbers: _Numbers) -> list[str]:
    """What links read from outside."""
    inside = {node.outputs[0] for node in nodes} | numbers.single
    return list(dict.fromkeys(name for node in nodes for name in node.inputs if name not in inside))


def _grown(last: Node, links: set[int], wiring: _Wiring, numbers: _Numbers, most_tensors: int) -> list[Node]:
    """Rule 2: the largest chain found that ends in this link, in order.

    What reads one tensor too many is gone through, because a link further on may make up for it: in x * f(x) the factor
    is a tensor of its own until f is taken in.
    """
    members, best = [last], [last]
    while len(members) < MOST_LINKS:
        inside = {id(node) for node in members}
        able = []
        for name in _tensors(members, numbers):
            node = wiring.producers.get(name)
            if node is None or id(node) not in links or name in wiring.outputs:
                continue
            if all(id(reader) in inside for reader in wiring.readers[name]):
                able.append([*members, node])
        if not able:
            break
        members = min(able, key=lambda nodes: len(_tensors(nodes, numbers)))
        count = len(_tensors(members, numbers))
        if count > len(TENSORS) + 1:
            break
        best = members if count <= most_tensors else best
    return sorted(best, key=lambda node: wiring.place[id(node)])


# --- rules 3 and 4 ----------------------------------------------------------------------------------------------------


class _Writer:
    """Writes the steps of links, one link after the other. at: the number of each value's result."""

    def __init__(self, tensors: list[str], numbers: _Numbers, graph: Graph) -> None:
        self.numbers, self.values = numbers, graph.values
        self.program = Program()
        self.at = dict(zip(tensors, TENSORS, strict=False))

    def add(self, node: Node) -> None:
        result = self._pair(node) if node.op in PAIRS else self._single(node)
        if "low" in node.attrs and node.op in PAIRS:
            result = self.program.step(opcodes.CLIP, result, a=node.attrs["low"], b=node.attrs["high"])
        self.at[node.outputs[0]] = result

    def _single(self, node: Node) -> int:
        program, x = self.program, self.at[node.inputs[0]]
        if node.op == "Tanh" and program.code(x) == opcodes.SOFTPLUS:
            return program.step(opcodes.GATE, program.steps[x - len(TENSORS)][1])
        if node.op == "Clip":
            return program.step(opcodes.CLIP, x, a=node.attrs["low"], b=node.attrs["high"])
        if node.op == "Pow":
            square = program.pair(opcodes.MUL, x, x)
            is_square = self.numbers.known[node.inputs[1]] == POWERS[0]
            return square if is_square else program.pair(opcodes.MUL, square, x)
        if node.op in PROGRAMS:
            dtype = self.values[node.outputs[0]].dtype
            assert dtype is not None
            return PROGRAMS[node.op][1](program, x, node.attrs, dtype)
        a, b = SPECS[node.op].scalars(node.attrs)
        return program.step(SPECS[node.op].code, x, a=a, b=b)

    def _pair(self, node: Node) -> int:
        for place, name in enumerate(node.inputs):
            if name in self.numbers.single:
                simple = self._with_number(node.op, self.at[node.inputs[1 - place]], name, place)
                if simple is not None:
                    return simple
                self.at[name] = self.program.step(opcodes.FILL, opcodes.X, a=self.numbers.known.get(name, name))
        return self.program.step(PAIRS[node.op], self.at[node.inputs[0]], self.at[node.inputs[1]])

    def _with_number(self, op: str, x: int, name: str, place: int) -> int | None:
        """One step, where there is one, for an operand that is a number; place: which."""
        value, step = self.numbers.known.get(name), self.program.step
        number: Number = name if value is None else value
        if op == "Add":
            return step(opcodes.AFFINE, x, a=1.0, b=number)
        if op == "Mul":
            return step(opcodes.AFFINE, x, a=number, b=0.0)
        if op == "Sub" and place == 0:
            return step(opcodes.AFFINE, x, a=-1.0, b=number)
        if value is None or not math.isfinite(value):
            return None
        if op == "Sub":
            return step(opcodes.AFFINE, x, a=1.0, b=-value)
        if op == "Div" and place == 1 and 1e-30 < abs(value) < 1e30:
            return step(opcodes.AFFINE, x, a=1 / value, b=0.0)
        if op in ("Max", "Min"):
            low, high = (value, math.inf) if op == "Max" else (-math.inf, value)
            return step(opcodes.CLIP, x, a=low, b=high)
        return None


def _chain(nodes: list[Node], graph: Graph, numbers: _Numbers) -> list[Node]:
    """Rule 3: the nodes that replace these."""
    tensors, last = _tensors(nodes, numbers), nodes[-1]
    writer = _Writer(tensors, numbers, graph)
    for node in nodes:
        writer.add(node)
    links = [node.op for node in nodes]
    dtype = graph.values[last.outputs[0]].dtype
    assert dtype is not None
    program = recognize(writer.program, dtype)
    return chain_nodes(program, tensors, last.outputs[0], links, graph, last.name)
