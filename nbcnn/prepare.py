"""Calls that rest on weights alone: packing, folding of batch norm. They run again only when a weight has changed.

What such calls hand to each other, and nobody else reads, lies in memory that is given back when they are done: a
network of 100 MB should not hold another 100 MB of folded weights beside its packed ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbcnn.binder import Buffer, Call
from nbcnn.memory import aligned_bytes
from nbcnn.parameter import Parameter
from nbcnn.placement import place

__all__ = ["Prepared", "group_calls"]


@dataclass
class Prepared:
    """Calls to repeat when one of the weights they rest on has a new version.

    weights: the parameters that the calls read, by buffer id, and no other call does: each is let go of afterwards.
    temporary: byte offsets of the buffers that live only during these calls, by buffer id; size: the bytes they need.
    """

    sources: list[Parameter]
    calls: list[tuple[Callable[..., None], Call]]
    weights: dict[int, Parameter]
    temporary: dict[int, int]
    size: int
    versions: tuple[int, ...] | None = None

    def refresh(self) -> None:
        """Run the calls if need be."""
        versions = tuple(p.version for p in self.sources)
        if versions == self.versions:
            return
        memory = aligned_bytes(self.size)
        for kernel, call in self.calls:
            kernel(*(self._resolve(a, memory) for a in call.args))
        self.versions = versions
        for parameter in self.weights.values():
            parameter.release()

    def steps(self) -> list[tuple[Callable[..., None], tuple[Any, ...]]]:
        """The calls with their arrays, for a test that runs them by hand."""
        memory = aligned_bytes(self.size)
        return [(kernel, tuple(self._resolve(a, memory) for a in call.args)) for kernel, call in self.calls]

    def _resolve(self, argument: Any, memory: np.ndarray) -> Any:
        if not isinstance(argument, Buffer):
            return argument
        if argument.array is not None:
            return argument.array
        if id(argument) in self.weights:
            return self.weights[id(argument)].data
        start = self.temporary[id(argument)]
        return memory[start : start + argument.nbytes].view(argument.dtype)


def group_calls(
    nodes: Sequence[tuple[set[str], list[Call]]],
    parameters: Mapping[str, Parameter],
    weights: Mapping[int, Parameter],
    load: Callable[[str], Callable[..., None]],
) -> list[Prepared]:
    """One Prepared for each set of nodes that hand buffers to each other, so that their order is kept.

    nodes: for each, the weights it rests on and its calls. weights: those without an array as yet, by buffer id.
    Buffers that must stay have arrays by now.
    """
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
    found = []
    for sources, calls, _ in groups:
        missing = [[b for b in c.buffers() if b.array is None] for c in calls]
        offsets, size = place([[b for b in used if id(b) not in weights] for used in missing], ())
        read = {id(b): weights[id(b)] for used in missing for b in used if id(b) in weights}
        bound = [(load(c.kernel), c) for c in calls]
        found.append(Prepared([parameters[s] for s in sorted(sources)], bound, read, offsets, size))
    return found
