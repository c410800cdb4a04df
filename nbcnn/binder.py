"""What an operator uses to turn a node into kernel calls on buffers.

Binding is symbolic: arguments are `Buffer` objects, and only when every call of a plan is known are buffers placed in
memory and replaced by arrays. Lifetimes therefore come from the calls themselves, scratch included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbcnn.devices import HOST, Device
from nbcnn.graph import Graph, Node, Value

__all__ = ["Binder", "Buffer", "Call"]


@dataclass(eq=False)
class Buffer:
    """A flat run of elements. kind: "arena" (placed by lifetime), "held" (has its own array for the life of the
    plan), "part" (lies in the buffer `whole`, from element `first` on). array: its memory on the plan's device, when it
    has some; content: what that holds, where it is a constant.
    """

    name: str
    dtype: np.dtype
    size: int
    kind: str = "arena"
    array: Any = None
    readers_left: int = 0
    content: Any = None
    whole: Buffer | None = None
    first: int = 0

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


@dataclass(eq=False)
class Call:
    """One kernel call: the kernel's name (or a Python function, for what needs no kernel), arguments (buffers, numbers,
    tuples of integers), and the node it came from.
    """

    kernel: str | Callable[..., None]
    args: tuple[Any, ...]
    node: Node

    def buffers(self) -> Iterable[Buffer]:
        """The memory that it reads or writes: of parts, the whole."""
        return (a.whole or a for a in self.args if isinstance(a, Buffer))


@dataclass
class Binder:
    """Collects the calls of one graph.

    threads: the most that a plan may use at once (scratch is sized by it). dtype: what floats are computed in.
    reads: how often each value is read, by nodes or by the caller. lasting: the ids of buffers that last. device:
    where it will run.
    """

    graph: Graph
    threads: int
    dtype: np.dtype
    calls: list[Call] = field(default_factory=list)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    reads: dict[str, int] = field(default_factory=dict)
    held: dict[bytes, Buffer] = field(default_factory=dict)
    node: Node | None = None
    lasting: set[int] | None = None
    device: Device = HOST

    @property
    def backend(self) -> str:
        """Whose kernels are bound: "cpu" or "cuda"."""
        return self.device.backend

    # --- what is known of values

    def value(self, name: str) -> Value:
        return self.graph.values[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape in memory order."""
        return self.graph.values[name].physical

    def axis(self, name: str, axis: int) -> int:
        """Where an ONNX axis of this value lies in memory order."""
        value = self.graph.values[name]
        rank = len(value.dims)
        axis %= max(rank, 1)
        if value.layout != "last" or axis == 0:
            return axis
        return rank - 1 if axis == 1 else axis - 1

    # --- buffers

    def buffer(self, name: str) -> Buffer:
        """The buffer of a value; made on first use."""
        found = self.buffers.get(name)
        if found is None:
            value = self.graph.values[name]
            assert value.stored is not None, name
            found = self.buffers[name] = Buffer(name, value.stored, value.size, readers_left=self.reads.get(name, 0))
            if value.part:
                found.kind, found.whole, found.first = "part", self.buffer(value.part.whole), value.part.first
                # From the first pixel's first channel to the last one's last.
                found.size = max(value.size // value.dims[1] - 1, 0) * value.pitch + value.dims[1]
        return found

    def optional(self, name: str) -> Buffer:
        """The buffer of an optional value; an empty one, which kernels take as absent, for ""."""
        return self.buffer(name) if name else self.empty()

    def empty(self, dtype: Any = None) -> Buffer:
        return self.constant(np.zeros(0, dtype or self.dtype))

    def constant(self, array: np.ndarray) -> Buffer:
        """A buffer that holds this array for the life of the plan; equal arrays share one."""
        array = np.ascontiguousarray(array).reshape(-1)
        key = array.dtype.str.encode() + b" " + array.tobytes()
        if key not in self.held:
            self.held[key] = Buffer("constant", array.dtype, array.size, "held", array)
        return self.held[key]

    def zeros(self, size: int) -> Buffer:
        """At least `size` zeros that nothing writes to."""
        return self.constant(np.zeros(-(-size // 256) * 256, self.dtype))

    def scratch(self, size: int, dtype: Any = None) -> Buffer:
        """Memory for one call (or for a few calls that are given the same buffer); its content is undefined."""
        return Buffer("scratch", np.dtype(dtype or self.dtype), max(int(size), 1))

    def alias(self, output: str, source: str) -> None:
        """Let an output be the very memory of an input: a view, no copy, unless one of them is kept in 16 bits."""
        have = self.buffer(source)
        if have.dtype != self.graph.values[output].stored:
            one = (*(1,) * 5, have.size)
            self.call("copy_strided", have, self.buffer(output), one, 0, (1,) * 6, 0, (1,) * 6)
            return
        self.buffers[output] = have
        have.readers_left += self.reads.get(output, 0)

    def mark_lasting(self) -> None:
        """Let what all calls so far write last: it is read at every run, but only written when a weight has changed."""
        self.lasting = {id(b) for call in self.calls for b in call.buffers()}

    def in_place(self, output: str, source: str) -> bool:
        """Try to let an output take over the memory of an input that nobody reads any more; says whether it does.

        A kernel that is bound so must allow that the two are one array. An input that the node reads twice is left
        alone: a convolution may add to its sums what it also gathers from, and would overwrite it too early.
        """
        have = self.buffer(source)
        value = self.graph.values[output]
        free = have.kind == "arena" and have.readers_left <= 1 and id(have) not in (self.lasting or ())
        if not free or have.size != value.size or have.dtype != value.stored:
            return False
        self.alias(output, source)
        return True

    # --- calls

    def call(self, kernel: str | Callable[..., None], *args: Any) -> None:
        assert self.node is not None
        self.calls.append(Call(kernel, args, self.node))

    def check(self, look: Callable[..., None], *args: Any) -> None:
        """Emit a look at values, which raises where something is wrong with them. On the processor alone: a GPU would
        have to wait for it, and its kernels make NaN of what they cannot use.
        """
        if self.backend == "cpu":
            self.call(look, *args)
