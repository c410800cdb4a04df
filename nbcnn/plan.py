"""From a lowered graph to something that runs: kernels bound, weights packed, every buffer placed.

A plan has two lists of calls. `prepare` holds what depends on weights and constants alone (packing, folding of batch norm): it runs
again only when a weight that it rests on has changed. `steps` is the rest, a flat list that the executor walks.

Buffers of `steps` lie in one arena, placed by lifetime: largest first, each at the lowest place that is free while it lives (the
"greedy by size" order of Pisarchyk and Lee, arXiv:2001.03288).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbcnn import kernels
from nbcnn.binder import Binder, Buffer, Call
from nbcnn.graph import Graph, Node
from nbcnn.ops import lookup
from nbcnn.parameter import Parameter

__all__ = ["Arena", "Plan", "build_plan"]

ALIGNMENT = 64
Step = tuple[Callable[..., None], tuple[Any, ...]]


class Arena:
    """Memory that plans share; it grows, and plans that were placed in a smaller one keep that."""

    def __init__(self) -> None:
        self.bytes = np.empty(0, np.uint8)

    def reserve(self, size: int) -> np.ndarray:
        if self.bytes.size < size:
            self.bytes = aligned_bytes(size)
        return self.bytes


def aligned_bytes(size: int) -> np.ndarray:
    """Uninitialized bytes that start on a cache line."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def aligned_array(size: int, dtype: np.dtype) -> np.ndarray:
    return aligned_bytes(size * dtype.itemsize).view(dtype)


@dataclass
class Prepared:
    """Calls that depend on weights alone, with the weights and the versions that they were last run for."""

    sources: list[Parameter]
    calls: list[Step]
    versions: tuple[int, ...] | None = None

    def refresh(self) -> None:
        versions = tuple(p.version for p in self.sources)
        if versions != self.versions:
            for kernel, args in self.calls:
                kernel(*args)
            self.versions = versions


@dataclass
class Plan:
    """A bound network for one set of input shapes.

    inputs, outputs: name -> array in the plan's memory, flat, and shape in memory order.
    arena_bytes: the planned peak of activations and scratch. held_bytes: packed weights and constants that this plan made.
    """

    graph: Graph
    steps: list[Step]
    nodes: list[Node]
    prepared: list[Prepared]
    arrays: dict[str, np.ndarray]
    arena_bytes: int
    held_bytes: int
    arena: np.ndarray = field(repr=False)

    def array(self, name: str) -> np.ndarray:
        """The memory of a graph input or output, in its physical shape."""
        return self.arrays[name].reshape(self.graph.values[name].physical)


def _reads(graph: Graph) -> dict[str, int]:
    reads: dict[str, int] = {}
    for node in graph.nodes:
        for name in filter(None, node.inputs):
            reads[name] = reads.get(name, 0) + 1
    for name in graph.output_names():
        reads[name] = reads.get(name, 0) + 1
    return reads


def _bind(graph: Graph, binder: Binder) -> dict[int, tuple[int, int]]:
    """Bind every node; returns node id -> its range of calls."""
    ranges: dict[int, tuple[int, int]] = {}
    for node in graph.nodes:
        binder.node = node
        start = len(binder.calls)
        lookup(node).bind(node, binder)
        ranges[id(node)] = (start, len(binder.calls))
        for name in filter(None, node.inputs):
            binder.buffer(name).readers_left -= 1
    binder.node = None
    return ranges


def weight_only(graph: Graph, weights: Iterable[str]) -> dict[int, set[str]]:
    """Node id -> the weights it rests on, for the nodes that need no input data."""
    rests_on: dict[str, set[str]] = {name: {name} for name in weights}
    rests_on |= {name: set() for name in graph.initializers if name not in rests_on}
    found: dict[int, set[str]] = {}
    for node in graph.nodes:
        names = [n for n in node.inputs if n]
        if node.attrs.get("effect") or not names or any(n not in rests_on for n in names):
            continue
        found[id(node)] = set().union(*(rests_on[n] for n in names))
        rests_on |= {n: found[id(node)] for n in node.outputs if n}
    return found


def place(calls: list[Call], alive_throughout: Iterable[Buffer]) -> tuple[dict[int, int], int]:
    """Byte offset of every arena buffer (by id), and the bytes needed."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    buffers: dict[int, Buffer] = {}
    for index, call in enumerate(calls):
        for buffer in call.buffers():
            if buffer.kind == "arena":
                buffers[id(buffer)] = buffer
                first.setdefault(id(buffer), index)
                last[id(buffer)] = index
    for buffer in alive_throughout:
        buffers[id(buffer)] = buffer
        first[id(buffer)], last[id(buffer)] = -1, len(calls)
    placed: list[tuple[int, int, int, int]] = []
    offsets: dict[int, int] = {}
    peak = 0
    for key in sorted(buffers, key=lambda k: (-buffers[k].nbytes, first[k])):
        size = -(-buffers[key].nbytes // ALIGNMENT) * ALIGNMENT
        offset = 0
        for begin, end, start, stop in sorted(p[2:] + p[:2] for p in placed):
            if stop < first[key] or last[key] < start:
                continue
            if begin - offset >= size:
                break
            offset = max(offset, end)
        placed.append((first[key], last[key], offset, offset + size))
        offsets[key] = offset
        peak = max(peak, offset + size)
    return offsets, peak


def build_plan(
    graph: Graph,
    parameters: Mapping[str, Parameter],
    dtype: np.dtype,
    arena: Arena,
    backend: str = "cpu",
    threads: int = 1,
) -> Plan:
    """Bind a lowered graph.

    graph: lowered; its `initializers` are constants, `parameters` the weights, both by value name.
    """
    binder = Binder(graph, threads, dtype, reads=_reads(graph))
    for name, array in graph.initializers.items():
        if name not in parameters:
            flat = np.ascontiguousarray(array).reshape(-1)
            binder.buffers[name] = Buffer(name, flat.dtype, flat.size, "held", flat)
    for name, parameter in parameters.items():
        binder.buffers[name] = Buffer(name, parameter.data.dtype, parameter.data.size, "held", parameter.data)
    early = weight_only(graph, parameters)
    graph.nodes.sort(key=lambda n: id(n) not in early)
    ranges = _bind(graph, binder)
    held_bytes = _hold(graph, binder, early, ranges)
    late = [c for n in graph.nodes if id(n) not in early for c in binder.calls[slice(*ranges[id(n)])]]
    edges = {binder.buffer(v.name) for v in (*graph.inputs, *graph.outputs)}
    offsets, peak = place(late, [b for b in edges if b.kind == "arena"])
    memory = arena.reserve(peak)

    def resolve(argument: Any) -> Any:
        if not isinstance(argument, Buffer):
            return argument
        if argument.array is None:
            start = offsets[id(argument)]
            argument.array = memory[start : start + argument.nbytes].view(argument.dtype)
        return argument.array

    def bound(calls: Iterable[Call]) -> list[Step]:
        return [(kernels.load(backend, c.kernel), tuple(resolve(a) for a in c.args)) for c in calls]

    prepared = [
        Prepared([parameters[s] for s in sorted(early[id(n)])], bound(binder.calls[slice(*ranges[id(n)])]))
        for n in graph.nodes
        if id(n) in early
    ]
    arrays = {v.name: resolve(binder.buffer(v.name)) for v in (*graph.inputs, *graph.outputs)}
    return Plan(graph, bound(late), [c.node for c in late], prepared, arrays, peak, held_bytes, memory)


def _hold(graph: Graph, binder: Binder, early: Mapping[int, object], ranges: Mapping[int, tuple[int, int]]) -> int:
    """Give arrays of their own to what the weight-only calls write; returns the bytes."""
    total = 0
    for node in graph.nodes:
        if id(node) in early:
            for call in binder.calls[slice(*ranges[id(node)])]:
                for buffer in call.buffers():
                    if buffer.kind == "arena":
                        buffer.kind = "held"
                        buffer.array = aligned_array(buffer.size, buffer.dtype)
                        total += buffer.nbytes
    return total
