"""Let neighbours that work element by element become one node, which reads its tensors once and writes once.

Rules:
1. *links* are activations, Clip, and arithmetic of two operands, on floats of one shape; an operand may also be a
   single number that needs no input data;
2. a link takes in the link before it, if nobody else reads what that one puts out, while no more than two tensors are
   read in all;
3. two links or more become a `Chain`: a program of the element-wise kernel. Numbers that are weights reach it through
   `ChainConstants`, a node that rests on weights alone, so that a new value has its effect;
4. tanh(softplus(x)) is one step, with one exponential instead of two and a logarithm.

What has become part of a convolution's or a sum's own clamp (fuse.py) is no link any more.
"""

from __future__ import annotations

import math
from collections.abc import Container

from nbcnn.graph import Graph, Node, is_float
from nbcnn.kernels import opcodes
from nbcnn.ops.arithmetic import CODES
from nbcnn.ops.elementwise import SPECS

__all__ = ["fuse_chains"]

PAIRS = {op: opcodes.PAIR + CODES[op] for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")}
POWERS = (2.0, 3.0)
MOST_LINKS, MOST_TENSORS = 32, 2
REGISTERS = (opcodes.X, opcodes.Z)


class _Numbers:
    """Which values are single numbers that need no input data: `known` ones, and others that rest on weights."""

    def __init__(self, graph: Graph, weights: Container[str]) -> None:
        self.fixed = set(graph.initializers)
        for node in graph.nodes:
            if node.inputs and all(name in self.fixed for name in filter(None, node.inputs)):
                self.fixed.update(filter(None, node.outputs))
        self.single = {name for name in self.fixed if graph.values[name].size == 1}
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


def fuse_chains(graph: Graph, weights: Container[str] = ()) -> None:
    """weights: the initializers whose values may change."""
    numbers = _Numbers(graph, weights)
    links = {id(node) for node in graph.nodes if _is_link(node, graph, numbers)}
    wiring = _Wiring(graph)
    taken: set[int] = set()
    made: dict[int, list[Node]] = {}
    for node in reversed(graph.nodes):
        if id(node) not in links or id(node) in taken:
            continue
        members = _grown(node, links - taken, wiring, numbers)
        if len(members) > 1:
            taken |= {id(n) for n in members}
            made[id(node)] = _chain(members, graph, numbers)
    graph.nodes = [new for node in graph.nodes for new in made.get(id(node), [] if id(node) in taken else [node])]
    graph.sort()


def _is_link(node: Node, graph: Graph, numbers: _Numbers) -> bool:
    """Rule 1."""
    if node.op not in SPECS and node.op not in PAIRS and node.op not in ("Clip", "Pow"):
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


def _grown(last: Node, links: set[int], wiring: _Wiring, numbers: _Numbers) -> list[Node]:
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
        if count > MOST_TENSORS + 1:
            break
        best = members if count <= MOST_TENSORS else best
    return sorted(best, key=lambda node: wiring.place[id(node)])


# --- rules 3 and 4 ----------------------------------------------------------------------------------------------------


class _Program:
    """Steps as they are written: results are numbered from 2 on, after the two tensors."""

    def __init__(self, tensors: list[str], numbers: _Numbers) -> None:
        self.numbers = numbers
        self.at = dict(zip(tensors, REGISTERS, strict=False))
        self.steps: list[tuple[int, int, int]] = []
        self.constants: list[float | str] = []

    def step(self, code: int, first: int, second: int = 0, a: float | str = 0.0, b: float | str = 0.0) -> int:
        self.steps.append((code, first, second))
        self.constants += [a, b]
        return len(self.steps) - 1 + len(REGISTERS)

    def add(self, node: Node) -> None:
        result = self._pair(node) if node.op in PAIRS else self._single(node)
        if "low" in node.attrs and node.op in PAIRS:
            result = self.step(opcodes.CLIP, result, a=node.attrs["low"], b=node.attrs["high"])
        self.at[node.outputs[0]] = result

    def _single(self, node: Node) -> int:
        x = self.at[node.inputs[0]]
        before = self.steps[x - len(REGISTERS)] if x >= len(REGISTERS) else (-1, 0, 0)
        if node.op == "Tanh" and before[0] == opcodes.SOFTPLUS:
            return self.step(opcodes.GATE, before[1])
        if node.op == "Clip":
            return self.step(opcodes.CLIP, x, a=node.attrs["low"], b=node.attrs["high"])
        if node.op == "Pow":
            square = self.step(PAIRS["Mul"], x, x)
            return square if self.numbers.known[node.inputs[1]] == POWERS[0] else self.step(PAIRS["Mul"], square, x)
        a, b = SPECS[node.op].scalars(node.attrs)
        return self.step(SPECS[node.op].code, x, a=a, b=b)

    def _pair(self, node: Node) -> int:
        for place, name in enumerate(node.inputs):
            if name in self.numbers.single:
                simple = self._with_number(node.op, self.at[node.inputs[1 - place]], name, place)
                if simple is not None:
                    return simple
                self.at[name] = self.step(opcodes.FILL, opcodes.X, a=self.numbers.known.get(name, name))
        return self.step(PAIRS[node.op], self.at[node.inputs[0]], self.at[node.inputs[1]])

    def _with_number(self, op: str, x: int, name: str, place: int) -> int | None:
        """One step, where there is one, for an operand that is a number; place: which."""
        value = self.numbers.known.get(name)
        number: float | str = name if value is None else value
        if op == "Add":
            return self.step(opcodes.AFFINE, x, a=1.0, b=number)
        if op == "Mul":
            return self.step(opcodes.AFFINE, x, a=number, b=0.0)
        if op == "Sub" and place == 0:
            return self.step(opcodes.AFFINE, x, a=-1.0, b=number)
        if value is None or not math.isfinite(value):
            return None
        if op == "Sub":
            return self.step(opcodes.AFFINE, x, a=1.0, b=-value)
        if op == "Div" and place == 1 and 1e-30 < abs(value) < 1e30:
            return self.step(opcodes.AFFINE, x, a=1 / value, b=0.0)
        if op in ("Max", "Min"):
            low, high = (value, math.inf) if op == "Max" else (-math.inf, value)
            return self.step(opcodes.CLIP, x, a=low, b=high)
        return None

    def finish(self) -> tuple[list[tuple[int, int, int, int]], list[float | str]]:
        """The steps that matter, with slots for their results, and their constants."""
        first = len(REGISTERS)
        last_read: dict[int, int] = {first + len(self.steps) - 1: len(self.steps)}
        for index in range(len(self.steps) - 1, -1, -1):
            if first + index in last_read:
                for operand in self._read(index):
                    last_read.setdefault(operand, index)
        where: dict[int, int] = dict(zip(REGISTERS, REGISTERS, strict=True))
        free: list[int] = []
        used = 0
        program, constants = [], []
        for index, (code, one, two) in enumerate(self.steps):
            if first + index not in last_read:
                continue
            operands = self._read(index)
            if last_read[first + index] == len(self.steps):
                slot = opcodes.Y
            elif free:
                slot = free.pop()
            else:
                slot, used = opcodes.SLOT + used, used + 1
            program.append((code, where[one], where[two] if len(operands) > 1 else 0, slot))
            constants += self.constants[2 * index : 2 * index + 2]
            where[first + index] = slot
            # Only now, because a step whose operand and result are one is not vectorized.
            free += [where[o] for o in set(operands) if o >= first and last_read[o] == index]
        return program, constants

    def _read(self, index: int) -> tuple[int, ...]:
        code, one, two = self.steps[index]
        return () if code == opcodes.FILL else (one, two) if code >= opcodes.PAIR else (one,)


def _chain(nodes: list[Node], graph: Graph, numbers: _Numbers) -> list[Node]:
    """Rule 3: the nodes that replace these."""
    tensors = _tensors(nodes, numbers)
    program = _Program(tensors, numbers)
    for node in nodes:
        program.add(node)
    steps, constants = program.finish()
    last = nodes[-1]
    y = graph.values[last.outputs[0]]
    names = list(dict.fromkeys(c for c in constants if isinstance(c, str)))
    known = [0.0 if isinstance(c, str) else c for c in constants]
    found: list[Node] = []
    table = ""
    if names:
        assert y.dtype is not None
        table = graph.new_value(f"{y.name}.constants", y.dtype, (len(known) + 2,))
        places = tuple((names.index(c), at) for at, c in enumerate(constants) if isinstance(c, str))
        found.append(Node("ChainConstants", names, [table], {"known": known, "places": places}, name=last.name))
    attrs = {"steps": steps, "constants": known, "links": tuple(node.op for node in nodes)}
    inputs = [*tensors, *[""] * (MOST_TENSORS - len(tensors)), table]
    return [*found, Node("Chain", inputs, [y.name], attrs, name=last.name)]
