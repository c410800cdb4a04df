"""A network as plain data: graph, nodes, values. No mathematics, no onnx, no Numba.

One set of classes serves two kinds of graph:

- the *source* graph is what a file says, name for name, and is never rewritten;
- the *lowered* graph is a copy that the passes work on, where every shape is known and operators carry normalized
attributes.

Values are known by name, as in ONNX. A name is written by exactly one node, or is a graph input, or an initializer.
`origin` fields hold whatever the file format needs in order to write a thing back unchanged; the engine never looks
inside.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from nbcnn.filemap import fresh, lies_in_file

__all__ = ["Dim", "Function", "Graph", "Node", "Parameterized", "Value", "is_float"]

Dim = int | str | None
"""One dimension: a number, a symbol such as "N", or None when nothing is known."""


def is_float(dtype: np.dtype | None) -> bool:
    """float16, bfloat16, float32 or float64: an 8-bit float is a number to be dequantized."""
    return dtype is not None and ((dtype.kind == "f" and dtype.itemsize > 1) or dtype.name == "bfloat16")


@dataclass(frozen=True)
class Part:
    """Where a value lies that is written into a larger one, channels last. whole: the name of that; first: which of its
    channels is this one's first; pitch: how many it has, the elements from pixel to pixel.
    """

    whole: str
    first: int
    pitch: int


@dataclass(eq=False)
class Value:
    """What is known of a tensor.

    shape: dimensions in ONNX order (N, C, spatial...), None when even the rank is unknown.
    layout: how the elements lie in memory: "plain" (ONNX order), "last" (channels last) or "packed" (a kernel's own
    order;
        the shape then is that of the storage). Only lowered graphs use anything but "plain".
    kept: a type of 16 bits that floats are kept in between kernels, which compute in `dtype`; None for that itself.
    part: where it lies, if it has no memory of its own.
    """

    name: str
    dtype: np.dtype | None = None
    shape: tuple[Dim, ...] | None = None
    layout: str = "plain"
    origin: Any = field(default=None, repr=False)
    kept: np.dtype | None = None
    part: Part | None = None

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape when every dimension is a number; raises ValueError otherwise."""
        if self.shape is None or not all(isinstance(d, int) for d in self.shape):
            raise ValueError(f"the shape of {self.name!r} is not known: {self.shape}")
        return self.shape  # type: ignore[return-value]

    @property
    def physical(self) -> tuple[int, ...]:
        """The shape in memory order."""
        dims = self.dims
        return (dims[0], *dims[2:], dims[1]) if self.layout == "last" else dims

    @property
    def size(self) -> int:
        return prod(self.dims)

    @property
    def pitch(self) -> int:
        """Elements from pixel to pixel, channels last."""
        return self.part.pitch if self.part else self.dims[1]

    @property
    def stored(self) -> np.dtype | None:
        """The element type in memory."""
        return self.kept or self.dtype


@dataclass(eq=False)
class Node:
    """One operator application.

    op: the operator, such as "Conv". inputs, outputs: value names, "" for an optional one left out.
    attrs: attribute values as Python and NumPy objects (int, float, str, lists, np.ndarray, Graph for a sub-graph).
    """

    op: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    domain: str = ""
    overload: str = ""
    origin: Any = field(default=None, repr=False)

    def input(self, index: int) -> str:
        """The name of an input, "" when it is absent."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def output(self, index: int) -> str:
        return self.outputs[index] if index < len(self.outputs) else ""

    def reads(self) -> list[str]:
        """The values that this node needs: its inputs, and what its sub-graphs take from outside."""
        found = [name for name in self.inputs if name]
        for attr in self.attrs.values():
            for graph in attr if isinstance(attr, list) else [attr]:
                if isinstance(graph, Graph):
                    found += graph.captures()
        return found

    @property
    def label(self) -> str:
        """How messages call this node."""
        return f"{self.op} {self.name!r}" if self.name else f"{self.op} (of {next(filter(None, self.outputs), '?')!r})"


@dataclass(frozen=True)
class Parameterized:
    """The value of an attribute inside a function: that of the function's attribute of this name."""

    name: str


@dataclass(eq=False)
class Function:
    """An operator that the file itself defines by other operators.

    inputs, outputs: names inside of the body. attrs: of the operator, with their defaults; `None` where there is none.
    opset: what the body was written for.
    """

    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any]
    nodes: list[Node]
    opset: dict[str, int]


@dataclass(eq=False)
class Graph:
    """A network.

    nodes: in an order in which every input is written before it is read.
    inputs: what a caller must feed (initializers that old files list as inputs too are not among them).
    initializers: name -> array in ONNX order; the weights and constants.
    values: everything known of any value, by name (source graphs: the file's value_info, inputs and outputs).
    opset: domain -> version; "" is ONNX itself.
    functions: (domain, operator, overload) -> its definition, for operators that the file defines.
    file: where it was read, "" where it was not read from a file.
    renamed: present name -> the name that the value has in `origin`, where they differ.
    """

    name: str = "graph"
    nodes: list[Node] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    initializers: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    opset: dict[str, int] = field(default_factory=dict)
    functions: dict[tuple[str, str, str], Function] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    doc: str = ""
    file: str = ""
    renamed: dict[str, str] = field(default_factory=dict)
    origin: Any = field(default=None, repr=False)

    def copy(self) -> Graph:
        """A copy whose nodes and values can be changed freely; arrays and origins are shared."""
        return replace(
            self,
            nodes=[replace(n, inputs=list(n.inputs), outputs=list(n.outputs), attrs=dict(n.attrs)) for n in self.nodes],
            inputs=[replace(v) for v in self.inputs],
            outputs=[replace(v) for v in self.outputs],
            initializers=dict(self.initializers),
            values={k: replace(v) for k, v in self.values.items()},
            opset=dict(self.opset),
            metadata=dict(self.metadata),
            renamed=dict(self.renamed),
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        """Nothing is shared but arrays that lie in a file, which nobody can write to."""
        memo |= {id(array): array for array in self.initializers.values() if lies_in_file(array)}
        found = memo[id(self)] = Graph()
        vars(found).update(copy.deepcopy(vars(self), memo))
        return found

    def __getstate__(self) -> dict[str, Any]:
        """For pickle, with the arrays that lie in a file; raises FileError where that has been written to."""
        return vars(self) | {"initializers": {name: fresh(array) for name, array in self.initializers.items()}}

    def captures(self) -> list[str]:
        """The values that a sub-graph takes from the graph around it."""
        own = {v.name for v in self.inputs} | set(self.initializers)
        own |= {name for node in self.nodes for name in node.outputs}
        read = [name for node in self.nodes for name in node.reads()] + self.output_names()
        return [name for name in dict.fromkeys(read) if name not in own]

    def producers(self) -> dict[str, Node]:
        """Value name -> the node that writes it."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    def consumers(self) -> dict[str, list[Node]]:
        """Value name -> the nodes that read it, once for each time they do."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in filter(None, node.inputs):
                readers.setdefault(name, []).append(node)
        return readers

    def sole_readers(self) -> dict[str, Node]:
        """Value name -> the node that reads it, for values that are read once, and by no caller of the graph."""
        outputs = set(self.output_names())
        return {name: nodes[0] for name, nodes in self.consumers().items() if len(nodes) == 1 and name not in outputs}

    def constants(self) -> set[str]:
        """The initializers, and the values that are computed from them alone."""
        found = set(self.initializers)
        for node in self.nodes:
            names = [name for name in node.inputs if name]
            if names and found.issuperset(names):
                found.update(filter(None, node.outputs))
        return found

    def output_names(self) -> list[str]:
        return [v.name for v in self.outputs]

    def describe(self, names: Iterable[str]) -> str:
        """Types and shapes of values, for messages."""
        values = [self.values.get(name, Value(name)) for name in names if name]
        return ", ".join(f"{v.name} {v.dtype} {list(v.shape)}" for v in values if v.shape is not None)

    def fresh(self, hint: str) -> str:
        """A value name that nothing in this graph has, close to `hint`; it is taken by the call."""
        name, count = hint, 1
        while name in self.values or name in self.initializers:
            count += 1
            name = f"{hint}.{count}"
        self.values[name] = Value(name)
        return name

    def new_value(self, hint: str, dtype: Any, shape: Iterable[int], layout: str = "plain") -> str:
        """Declare a fully known value and return its name."""
        name = self.fresh(hint)
        self.values[name] = Value(name, np.dtype(dtype), tuple(shape), layout)
        return name

    def prune(self) -> None:
        """Drop every node that no graph output depends on, unless it has the attribute `effect`."""
        needed = set(self.output_names())
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if node.attrs.get("effect") or not needed.isdisjoint(filter(None, node.outputs)):
                kept.append(node)
                needed.update(node.reads())
        self.nodes = kept[::-1]

    def sort(self) -> None:
        """Put the nodes in an order in which inputs come first, keeping the present order where it already is one."""
        producers = self.producers()
        done: set[int] = set()
        ordered: list[Node] = []
        for root in self.nodes:
            stack: list[tuple[Node, Iterator[str]]] = [(root, iter(root.reads()))]
            entered = {id(root)}
            if id(root) in done:
                continue
            while stack:
                node, rest = stack[-1]
                for name in rest:
                    before = producers.get(name)
                    if before is not None and id(before) not in done:
                        if id(before) in entered:
                            raise ValueError(f"the graph has a cycle through {before.label}")
                        entered.add(id(before))
                        stack.append((before, iter(before.reads())))
                        break
                else:
                    stack.pop()
                    done.add(id(node))
                    ordered.append(node)
        self.nodes = ordered
