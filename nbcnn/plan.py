"""From a lowered graph to something that runs: kernels bound, weights packed, every buffer placed.

A plan has two lists of calls. `prepare` holds what depends on weights and constants alone (packing, folding of batch
norm): it runs again only when a weight that it rests on has changed. `steps` is the rest, a flat list that the
executor walks.

Buffers of `steps` lie in one arena, placed by lifetime (placement.py).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from nbcnn.binder import Binder, Buffer, Call
from nbcnn.compilation import compile_ahead
from nbcnn.devices import HOST, Device
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.filemap import fresh
from nbcnn.graph import Graph, Node
from nbcnn.kernels import entry_point
from nbcnn.ops import lookup
from nbcnn.ops.base import misuse_named
from nbcnn.parameter import Parameter, Storage
from nbcnn.placement import Arena, place
from nbcnn.prepare import Prepared, prepare

__all__ = ["Plan", "build_plan"]

MOST_ON_GPU = 1 << 32
"""CUDA kernels count elements in 32 bits."""

Step = tuple[Callable[..., None], tuple[Any, ...]]


@dataclass
class Plan:
    """A bound network for one set of input shapes.

    inputs, outputs: name -> array in the plan's memory, flat, and shape in memory order.
    arena_bytes: the planned peak of activations and scratch. held_bytes: packed weights and constants that this plan
    uses. masters: the weights that steps read or write, with their arrays. storages: all weights, with their orders.
    alone: whether the steps are so small that one thread makes them. calls: what may have to be compiled before the
    first run. seen: `Parameter.changes` when the plan was last known to be current and refreshed. device: where the
    arrays lie; graphs, ran: what it keeps of ranges of steps that it has run.
    """

    graph: Graph
    steps: list[Step]
    nodes: list[Node]
    prepared: list[Prepared]
    arrays: dict[str, Any]
    arena_bytes: int
    held_bytes: int
    arena: Any = field(repr=False)
    masters: list[tuple[Parameter, Any]] = field(repr=False)
    storages: list[tuple[Parameter, Storage | None]] = field(repr=False)
    alone: bool = False
    calls: list[Call] = field(default_factory=list, repr=False)
    seen: int = -1
    device: Device = HOST
    graphs: dict[Any, Any] = field(default_factory=dict, repr=False)
    ran: set[Any] = field(default_factory=set, repr=False)

    def compile(self) -> None:
        """Compile all kernels that are not compiled yet, in several processes; the first run does."""
        if self.device is HOST:
            compile_ahead(self.calls)
        self.calls = []

    @cached_property
    def entries(self) -> list[Step]:
        """The steps as the processor's own functions, without Numba's look at the types of the arguments."""
        return [(entry_point(kernel, args), args) for kernel, args in self.steps]

    def is_current(self) -> bool:
        """Whether the weights still are where, and in the order in which, this plan was bound to them."""
        return all(p.is_master(array) for p, array in self.masters) and all(p.storage == s for p, s in self.storages)

    def array(self, name: str) -> Any:
        """The memory of a graph input or output, in its physical shape."""
        return self.arrays[name].reshape(self.graph.values[name].physical)

    def feed(self, name: str, array: Any) -> None:
        """Overwrite a graph input with an array of its physical shape."""
        self.device.write(self.array(name), array)

    def fetch(self, name: str) -> np.ndarray:
        """A copy of a graph input or output, in its physical shape."""
        return self.device.read(self.array(name)).reshape(self.graph.values[name].physical)


def _reads(graph: Graph) -> dict[str, int]:
    reads: dict[str, int] = {}
    for node in graph.nodes:
        for name in filter(None, node.inputs):
            reads[name] = reads.get(name, 0) + 1
    for name in graph.output_names():
        reads[name] = reads.get(name, 0) + 1
    return reads


def _bind(graph: Graph, binder: Binder, early: Container[int]) -> dict[int, tuple[int, int]]:
    """Bind every node, the early ones first; returns node id -> its range of calls."""
    ranges: dict[int, tuple[int, int]] = {}
    graph.nodes.sort(key=lambda n: id(n) not in early)
    for node in graph.nodes:
        if id(node) not in early and binder.lasting is None:
            binder.mark_lasting()
        binder.node = node
        start = len(binder.calls)
        with misuse_named(node, partial(_surroundings, graph, node)):
            lookup(node).bind(node, binder)
        ranges[id(node)] = (start, len(binder.calls))
        for name in filter(None, node.inputs):
            binder.buffer(name).readers_left -= 1
    binder.node = None
    return ranges


def _surroundings(graph: Graph, node: Node) -> tuple[str, str]:
    return graph.file, f"inputs {graph.describe(node.inputs)}"


def weight_only(graph: Graph, weights: Iterable[str], changed: Container[str] = ()) -> dict[int, set[str]]:
    """Node id -> the weights it rests on, for the nodes that need neither input data nor what is `changed`."""
    rests_on: dict[str, set[str]] = {name: {name} for name in weights}
    rests_on |= {name: set() for name in graph.initializers if name not in rests_on and name not in changed}
    found: dict[int, set[str]] = {}
    for node in graph.nodes:
        names = [n for n in node.inputs if n]
        if node.attrs.get("effect") or not names or any(n not in rests_on for n in names):
            continue
        found[id(node)] = set().union(*(rests_on[n] for n in names))
        rests_on |= {n: found[id(node)] for n in node.outputs if n}
    return found


def build_plan(
    graph: Graph,
    parameters: Mapping[str, Parameter],
    dtype: np.dtype,
    arena: Arena,
    device: Device = HOST,
    threads: int = 1,
    alone: bool = False,
) -> Plan:
    """Bind a lowered graph.

    graph: lowered; its `initializers` are constants, `parameters` the weights, both by value name. alone: bind the
    kernels' forms for one thread.
    """
    binder = Binder(graph, threads, dtype, reads=_reads(graph), device=device)
    for name, array in graph.initializers.items():
        if name not in parameters:
            flat = _flat(array, device)
            binder.buffers[name] = Buffer(name, flat.dtype, flat.size, "held", flat)
    for name, parameter in parameters.items():
        binder.buffers[name] = Buffer(name, parameter.dtype, parameter.stored_size, "held")
    # What is made from a weight that this very graph changes is made at every step, and need not last beyond it.
    changed = {node.inputs[0] for node in graph.nodes if node.attrs.get("effect")}
    early = weight_only(graph, [name for name in parameters if name not in changed], changed)
    ranges = _bind(graph, binder, early)
    late = [c for n in graph.nodes if id(n) not in early for c in binder.calls[slice(*ranges[id(n)])]]
    if alone:
        for call in late:
            if isinstance(call.kernel, str):
                call.kernel += ":alone"
    if device is not HOST:
        _check_offered(binder, device)
        _check_sizes(binder, device)
    _put_constants(binder, device)
    edges = [binder.buffer(v.name) for v in (*graph.inputs, *graph.outputs)]
    prepared_calls = [(early[id(n)], binder.calls[slice(*ranges[id(n)])]) for n in graph.nodes if id(n) in early]
    read = {id(b) for c in late for b in c.buffers()} | {id(b) for b in edges}
    weights = {id(binder.buffers[name]): parameter for name, parameter in parameters.items()}
    masters = _masters(binder, parameters, read)
    prepared = prepare(prepared_calls, weights, read, device, arena.prepared)
    steps = [[b for b in c.buffers() if b.array is None] for c in late]
    offsets, peak = place(steps, {id(b): b for b in edges if b.array is None}.values())
    try:
        memory = arena.reserve(peak, device)
    except Exception as error:
        needed = device.memory_error(peak, error)
        if needed is None:
            raise
        raise ModelError(f"the network needs {needed}: {_smaller(graph, peak, device)}") from error

    def resolve(argument: Any) -> Any:
        if not isinstance(argument, Buffer):
            return argument
        if argument.whole is not None:
            return resolve(argument.whole)[argument.first : argument.first + argument.size]
        if argument.array is None:
            start = offsets[id(argument)]
            argument.array = device.view(memory[start : start + argument.nbytes], argument.dtype)
        return argument.array

    bound = [(device.load(c.kernel), tuple(resolve(a) for a in c.args)) for c in late]
    arrays = {v.name: resolve(binder.buffer(v.name)) for v in (*graph.inputs, *graph.outputs)}
    for name, parameter in parameters.items():
        graph.initializers.pop(name, None)  # it may be a copy, of another type than the file's
        parameter.release()
    storages = [(p, p.storage) for p in parameters.values()]
    held_bytes = sum(a.nbytes for p in prepared for a in p.lasting) + sum(b.nbytes for b in binder.held.values())
    nodes = [c.node for c in late]
    return Plan(
        graph, bound, nodes, prepared, arrays, peak, held_bytes, memory, masters, storages, alone, binder.calls,
        device=device,
    )  # fmt: skip


def _flat(array: Any, device: Device) -> Any:
    """A constant as the kernels take it: flat and in one piece."""
    if device is not HOST and device.owns(array):
        return array
    return np.require(fresh(array), requirements=["C", "A", "W"]).reshape(-1)


def _put_constants(binder: Binder, device: Device) -> None:
    """Move the arrays that hold constants to the device."""
    for buffer in (*binder.held.values(), *binder.buffers.values()):
        if buffer.array is not None and buffer.content is None:
            buffer.content, buffer.array = buffer.array, device.put(buffer.array)


def _check_offered(binder: Binder, device: Device) -> None:
    """Raise UnsupportedError, naming all nodes, where the device lacks a kernel and may not ask the processor."""
    if device.allow_fallback:
        return
    lacking = {c.node.label: c for c in binder.calls if not device.offers(c.kernel)}
    if lacking:
        whom = ", ".join(f"{label} ({call.node.op})" for label, call in lacking.items())
        advice = "allow_fallback=True (--allow-fallback) runs them on the processor"
        raise UnsupportedError(f"device {device.name!r} has no kernels for {whom}; {advice}")


def _check_sizes(binder: Binder, device: Device) -> None:
    """Raise ModelError for an array of more elements than a GPU's kernels count."""
    for call in binder.calls:
        for buffer in call.buffers():
            if buffer.size >= MOST_ON_GPU:
                raise ModelError(
                    f"{call.node.label}: an array of {buffer.size:,} elements is too large for device {device.name!r}, "
                    f"whose kernels count to {MOST_ON_GPU - 1:,}: use smaller batches or pictures"
                )


def _smaller(graph: Graph, peak: int, device: Device) -> str:
    """What to do about too large a network: the batch that would fit, where that can be told."""
    free, batch = device.free_bytes(), graph.inputs[0].dims[0] if graph.inputs and graph.inputs[0].dims else 0
    fits = 0 if free is None else free * batch // max(peak, 1)
    return f"a batch of {fits} would fit" if 0 < fits < batch else "use smaller batches or pictures"


def _masters(
    binder: Binder, parameters: Mapping[str, Parameter], read: Container[int]
) -> list[tuple[Parameter, np.ndarray]]:
    """Give the weights that are read at every run their arrays, and return them; others are read to be packed."""
    found = []
    for name, parameter in parameters.items():
        buffer = binder.buffers[name]
        if id(buffer) in read:
            buffer.array = parameter.data
            found.append((parameter, buffer.array))
    return found
