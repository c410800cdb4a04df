"""Make the lowered copy of a source graph: every shape known, attributes normalized, shape arithmetic folded away.

Rules, for each node in order:
1. its operator rewrites attributes and inputs to the engine's one form (opset differences end here);
2. if it only needs constants (or shapes) and its operator can fold, its outputs become constants;
3. otherwise its outputs get types and shapes. Every float is computed in `dtype`.

An If whose condition is known becomes the nodes of its branch, and an operator that the file defines those of its
body.

Float initializers are weights: they are never folded, so that a trained weight keeps its effect.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.filemap import lies_in_file
from nbcnn.graph import Function, Graph, Node, Value, is_float
from nbcnn.ops import Facts, find, lookup
from nbcnn.ops.base import UndeterminedError, misuse_named
from nbcnn.passes.inline import body_of, branch
from nbcnn.passes.microsoft import definition

__all__ = ["Mode", "Sweep", "is_known", "need_operators", "specialize"]


@dataclass(frozen=True)
class Mode:
    """Whether a plan trains, and which nodes then stay as they are at inference (frozen)."""

    train: bool = False
    frozen: Callable[[Node], bool] = lambda node: False


def compute_dtype(stored: np.dtype, dtype: np.dtype) -> np.dtype:
    """What a stored element type is computed in."""
    return dtype if is_float(stored) else stored


def need_operators(graph: Graph) -> None:
    """Raise UnsupportedError, naming the nodes, where the engine does not have every operator of a source graph."""
    missing = [f"{n.domain}.{n.label}" if n.domain else n.label for n in graph.nodes if not is_known(n, graph)]
    if missing:
        raise UnsupportedError(
            f"operators that are not supported: {', '.join(missing)}: export the network without them"
        ).within(graph.file, "")


def is_known(node: Node, graph: Graph) -> bool:
    """Whether the engine has the operator of a node, or the file defines it."""
    return find(node) is not None or _is_if(node) or _function(node, graph) is not None


def _is_if(node: Node) -> bool:
    return node.op == "If" and node.domain in ("", "ai.onnx")


def _function(node: Node, graph: Graph) -> Function | None:
    """What defines the operator of a node by others: the file, or what is known of onnxruntime's own."""
    return graph.functions.get((node.domain, node.op, node.overload)) or definition(node)


def specialize(
    source: Graph,
    feeds: Mapping[str, tuple[tuple[int, ...], np.dtype]],
    dtype: np.dtype,
    outputs: Iterable[str] | None = None,
    mode: Mode = Mode(),
    known: Mapping[str, np.ndarray] | None = None,
) -> Graph:
    """The lowered graph for inputs of these shapes and types; raises UnsupportedError or ModelError, naming nodes.

    known: values of which more than the shape is known, by name: inputs, or anything inside of the network.
    """
    known = known or {}
    need_operators(source)
    graph = source.copy()
    graph.values = {}
    graph.initializers = {}
    graph.nodes = []
    sweep = Sweep(source, graph, dtype, mode)
    for name, array in source.initializers.items():
        sweep.constant(name, array, weight=is_float(array.dtype))
    for name, array in known.items():
        sweep.constant(name, array, weight=False)
    for value in source.inputs:
        if value.dtype is not None:
            sweep.declare(value.name, value.dtype)
        if value.name in feeds and value.name not in known:
            shape, kind = feeds[value.name]
            graph.values[value.name] = Value(value.name, compute_dtype(kind, dtype), shape)
    wanted = list(outputs) if outputs is not None else source.output_names()
    for node in _needed(source, wanted, known):
        try:
            sweep.visit(node)
        except UndeterminedError:
            if not all(name in graph.values for name in wanted):
                raise
            break  # what is wanted lies in a branch or function, before what rests on unknown values
        if node.outputs and all(name in graph.values for name in wanted):
            break
    graph.inputs = [graph.values[v.name] for v in source.inputs if v.name in graph.values]
    graph.outputs = [graph.values[name] for name in wanted]
    graph.prune()
    return graph


def _needed(source: Graph, wanted: Iterable[str], known: Container[str]) -> list[Node]:
    """Copies of the nodes that `wanted` depends on; of all, where a name is that of a value inside of a branch."""
    copy = source.copy()
    copy.outputs = [Value(name) for name in wanted]
    copy.nodes = [n for n in copy.nodes if not all(name in known for name in n.outputs if name)]
    copy.sort()
    outside = {v.name for v in source.inputs} | set(source.initializers) | set(copy.producers())
    if all(name in outside or name in known for name in wanted):
        copy.prune()
    return copy.nodes


class Sweep:
    """The rules, a node at a time. source: for its opset. graph: the lowered graph, which grows."""

    def __init__(self, source: Graph, graph: Graph, dtype: np.dtype, mode: Mode) -> None:
        self.source, self.graph, self.dtype, self.mode = source, graph, dtype, mode
        opset = source.opset.get("", source.opset.get("ai.onnx", 1))
        self.facts = Facts(graph, opset, {}, mode.train)
        self.foldable = self.facts.foldable

    def constant(self, name: str, array: np.ndarray, weight: bool) -> None:
        """Enter a known array; weights can be read as settings, but nothing that rests on them is folded."""
        stored = array.dtype
        kind = compute_dtype(stored, self.dtype)
        if not (weight and lies_in_file(array)):  # such a one is brought to this type when the kernels need it
            array = array.astype(kind, copy=False)
        self.declare(name, stored)
        self.graph.values[name] = Value(name, kind, array.shape)
        self.graph.initializers[name] = array
        self.facts.constants[name] = array
        if not weight:
            self.foldable[name] = array

    def declare(self, name: str, dtype: np.dtype, like: Iterable[str] = ()) -> None:
        """Remember the type that a value has by the file; one of the type that floats are computed in has that of the
        first float in `like`, as most operators keep it.
        """
        declared = self.facts.declared
        if name in declared or not is_float(dtype):
            return
        if dtype == self.dtype:
            floats = (n for n in like if n and is_float(self.graph.values[n].dtype))
            dtype = declared.get(next(floats, ""), dtype)
        if dtype != self.dtype:
            declared[name] = dtype

    def visit(self, node: Node) -> None:
        inputs = list(node.inputs)

        def where() -> tuple[str, str]:
            told = self.graph.describe(inputs)
            return self.source.file, f"opset {self.facts.opset}" + (f", inputs {told}" if told else "")

        with misuse_named(node, where):
            self._visit(node)

    def _visit(self, node: Node) -> None:
        graph = self.graph
        function = _function(node, self.source)
        if function is not None:
            self._call(node, function)
            return
        if _is_if(node):
            self._choose(node)
            return
        op = lookup(node)
        for name in filter(None, node.inputs):
            if name not in graph.values:
                raise ModelError(
                    f"{node.label}: input {name!r} is neither fed, nor an initializer, nor computed by any node"
                )
        # A value that is known already, by having been computed before: this node writes beside it.
        node.outputs = [graph.fresh(name) if name in graph.initializers else name for name in node.outputs]
        self.facts.train = self.mode.train and not self.mode.frozen(node)
        if op.alike != ():
            self.facts.need_one_type(node, op.alike)
        op.normalize(node, self.facts)
        inputs = [graph.values[n] if n else None for n in node.inputs]
        arrays = [self.foldable.get(n) for n in node.inputs]
        folded = op.fold(node, arrays, inputs)
        if folded is not None:
            for name, array in zip(node.outputs, folded, strict=False):
                if name:
                    self.declare(name, np.asarray(array).dtype, node.inputs)
                    self.constant(name, np.asarray(array), weight=False)
            return
        graph.nodes.append(node)
        for name, (kind, shape) in zip(node.outputs, op.infer(node, inputs), strict=False):
            if name:
                if min(shape, default=0) < 0:
                    raise ModelError(f"{node.label}: its output would have shape {list(shape)}")
                self.declare(name, np.dtype(kind), node.inputs)
                dtype = compute_dtype(np.dtype(kind), self.dtype)
                graph.values[name] = Value(name, dtype, tuple(int(d) for d in shape))

    def _call(self, node: Node, function: Function) -> None:
        """The body of a function, by the rules of the opset that it was written for."""
        opset = self.facts.opset
        self.facts.opset = function.opset.get("", function.opset.get("ai.onnx", opset))
        try:
            for inner in body_of(node, function):
                self.visit(inner)
        finally:
            self.facts.opset = opset

    def _choose(self, node: Node) -> None:
        """The branch of an If, whose condition must be known."""
        condition = self.facts.constant(node, 0, "the condition")
        if condition is None:
            raise ModelError(f"{node.label}: the condition is missing")
        body = branch(node, node.attrs["then_branch" if condition.reshape(-1)[0] else "else_branch"])
        for name, array in body.initializers.items():
            self.constant(name, array, weight=False)
        for inner in body.nodes:
            self.visit(inner)
