"""Calls that rest on weights alone: packing, folding of batch norm. They run again only when a weight has changed.

What such calls hand to each other, and nobody else reads, lies in memory that is given back when they are done: a
network of 100 MB should not hold another 100 MB of folded weights beside its packed ones. What the steps read lasts,
and plans of one model that need the same made from the same weights share it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbcnn.binder import Buffer, Call
from nbcnn.devices import HOST, Device
from nbcnn.parameter import Parameter
from nbcnn.placement import place

__all__ = ["Prepared", "prepare"]

Kernel = Callable[..., None]


@dataclass(eq=False)
class Prepared:
    """Calls to repeat when one of the weights they rest on has a new version.

    weights: the parameters that the calls read, by buffer id; each is let go of afterwards. lasting: the arrays that
    they make for the steps. temporary: byte offsets of the buffers that live only during these calls, by buffer id;
    size: the bytes they need.
    """

    sources: list[Parameter]
    calls: list[tuple[Kernel, Call]]
    weights: dict[int, Parameter]
    lasting: list[Any]
    temporary: dict[int, int]
    size: int
    device: Device = HOST
    versions: tuple[int, ...] | None = None

    def refresh(self) -> None:
        """Run the calls if need be."""
        versions = tuple(p.version for p in self.sources)
        if versions == self.versions:
            return
        memory = self.device.allocate(self.size)
        for kernel, call in self.calls:
            kernel(*(self._resolve(a, memory) for a in call.args))
        self.device.synchronize()  # what the calls handed to each other goes back now
        self.versions = versions
        for parameter in self.weights.values():
            parameter.release()

    def steps(self) -> list[tuple[Kernel, tuple[Any, ...]]]:
        """The calls with their arrays, for a test that runs them by hand."""
        memory = self.device.allocate(self.size)
        return [(kernel, tuple(self._resolve(a, memory) for a in call.args)) for kernel, call in self.calls]

    def _resolve(self, argument: Any, memory: Any) -> Any:
        if not isinstance(argument, Buffer):
            return argument
        if id(argument) in self.weights:
            return self.weights[id(argument)].data
        if argument.array is not None:
            return argument.array
        start = self.temporary[id(argument)]
        return self.device.view(memory[start : start + argument.nbytes], argument.dtype)


def prepare(
    nodes: Sequence[tuple[set[str], list[Call]]],
    weights: Mapping[int, Parameter],
    read: Container[int],
    device: Device,
    shared: MutableMapping[Any, Prepared],
) -> list[Prepared]:
    """One Prepared for each set of nodes that hand buffers to each other, so that their order is kept.

    nodes: for each, the weights it rests on and its calls. weights: by buffer id. read: the ids of the buffers that
    steps read, which get arrays that last. shared: what plans have prepared, by what it does; it is used, and grows.
    """
    found: list[Prepared] = []
    made: list[tuple[Prepared, list[Buffer]]] = []
    again: list[tuple[Prepared, list[Buffer]]] = []
    for sources, calls in _groups(nodes):
        outputs = list({id(b): b for c in calls for b in c.buffers() if b.kind == "arena" and id(b) in read}.values())
        key = _description(calls, weights, {id(b) for b in outputs})
        known = shared.get(key)
        if known is None:
            known = shared[key] = _prepared(sources, calls, weights, outputs, device)
            made.append((known, outputs))
        else:
            again.append((known, outputs))
        found.append(known)
    _give_memory(made, device)
    for known, outputs in again:  # only now: one plan may do the same twice, and has no memory for it before
        for buffer, array in zip(outputs, known.lasting, strict=True):
            buffer.array = array
    return found


def _groups(nodes: Sequence[tuple[set[str], list[Call]]]) -> list[tuple[set[str], list[Call]]]:
    """Join the nodes, with what they rest on, that hand buffers to each other."""
    groups: list[tuple[set[str], list[Call], set[int]]] = []
    for sources, calls in nodes:
        passing = {id(b) for c in calls for b in c.buffers() if b.kind == "arena"}
        joined = [g for g in groups if g[2] & passing]
        merged: tuple[set[str], list[Call], set[int]] = (set(sources), [], passing)
        for group in joined:
            merged[0].update(group[0])
            merged[1].extend(group[1])
            merged[2].update(group[2])
            groups.remove(group)
        merged[1].extend(calls)
        groups.append(merged)
    return [(sources, calls) for sources, calls, _ in groups]


def _prepared(
    sources: set[str],
    calls: list[Call],
    weights: Mapping[int, Parameter],
    outputs: list[Buffer],
    device: Device,
) -> Prepared:
    """The calls, bound but for the arrays that last."""
    lasting = {id(b) for b in outputs}
    known = {p.name: p for p in weights.values()}
    passing = [
        [b for b in c.buffers() if b.array is None and id(b) not in weights and id(b) not in lasting] for c in calls
    ]
    offsets, size = place(passing, ())
    used = {id(b): weights[id(b)] for c in calls for b in c.buffers() if id(b) in weights}
    bound = [(device.load(c.kernel), c) for c in calls]
    return Prepared([known[s] for s in sorted(sources)], bound, used, [], offsets, size, device)


def _description(calls: list[Call], weights: Mapping[int, Parameter], lasting: Container[int]) -> tuple[Any, ...]:
    """What the calls do: equal for calls of the same kernels, in the same order, on the same weights and numbers."""
    numbers: dict[int, int] = {}

    def said(argument: Any) -> tuple[Any, ...]:
        if not isinstance(argument, Buffer):
            return type(argument), argument
        if id(argument) in weights:
            parameter = weights[id(argument)]
            return parameter, parameter.storage
        if argument.kind == "held" and argument.content is not None:
            return argument.dtype.str, argument.content.tobytes()
        number = numbers.setdefault(id(argument), len(numbers))
        return number, argument.dtype.str, argument.size, id(argument) in lasting

    return tuple((call.kernel, *map(said, call.args)) for call in calls)


def _give_memory(made: Sequence[tuple[Prepared, list[Buffer]]], device: Device) -> None:
    """Give the buffers that last their arrays, all in one block."""
    offsets, size = place([], [b for _, outputs in made for b in outputs])
    memory = device.allocate(size)
    for prepared, outputs in made:
        for buffer in outputs:
            start = offsets[id(buffer)]
            buffer.array = device.view(memory[start : start + buffer.nbytes], buffer.dtype)
            prepared.lasting.append(buffer.array)
