"""Where buffers lie in an arena: placed by lifetime, so that memory is used again as soon as nobody reads it any
more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from nbcnn.binder import Buffer
from nbcnn.devices import HOST, Device
from nbcnn.errors import ModelError
from nbcnn.memory import ALIGNMENT, aligned_bytes, machine_bytes

__all__ = ["Arena", "place"]


class Arena:
    """Memory that plans share; it grows, and plans that were placed in a smaller one keep that.

    prepared: what plans that are still there have made of weights, see prepare.py.
    """

    def __init__(self) -> None:
        self.bytes: Any = np.empty(0, np.uint8)
        self.prepared: WeakValueDictionary[Any, Any] = WeakValueDictionary()

    def reserve(self, size: int, device: Device = HOST) -> Any:
        """Memory of at least so many bytes; raises ModelError for more than the machine has."""
        if device is not HOST:
            if self.bytes.size < size or not device.owns(self.bytes):
                self.bytes = device.allocate(size)
        elif self.bytes.size < size:
            whole = machine_bytes()
            problem = f"the network needs {size / (1 << 30):.1f} GiB for what it computes on the way"
            if whole is not None and size > whole:
                raise ModelError(f"{problem}, and this machine has {whole / (1 << 30):.1f}: feed smaller inputs")
            try:
                self.bytes = aligned_bytes(size)
            except (OSError, MemoryError):
                raise ModelError(f"{problem}, which cannot be had: feed smaller inputs") from None
        return self.bytes


def place(steps: Sequence[Iterable[Buffer]], throughout: Iterable[Buffer]) -> tuple[dict[int, int], int]:
    """Byte offset of every buffer (by id), and the bytes needed.

    steps: the buffers that each call reads or writes, in order; a buffer lives from its first to its last call.
    throughout: buffers that live all the time. Largest first, each at the lowest place that is free while it lives:
    the "greedy by size" order of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference",
    arXiv:2001.03288.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    buffers: dict[int, Buffer] = {}
    for index, used in enumerate(steps):
        for buffer in used:
            buffers[id(buffer)] = buffer
            first.setdefault(id(buffer), index)
            last[id(buffer)] = index
    for buffer in throughout:
        buffers[id(buffer)] = buffer
        first[id(buffer)], last[id(buffer)] = -1, len(steps)
    placed: list[tuple[int, int, int, int]] = []
    offsets: dict[int, int] = {}
    peak = 0
    for key in sorted(buffers, key=lambda k: (-buffers[k].nbytes, first[k])):
        size = -(-buffers[key].nbytes // ALIGNMENT) * ALIGNMENT
        offset = 0
        for begin, end, start, stop in sorted(placed):
            if stop < first[key] or last[key] < start:
                continue
            if begin - offset >= size:
                break
            offset = max(offset, end)
        placed.append((offset, offset + size, first[key], last[key]))
        offsets[key] = offset
        peak = max(peak, offset + size)
    return offsets, peak
