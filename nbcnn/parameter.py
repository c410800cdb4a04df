"""Weights: one master array each, in ONNX order or in the order of the kernel that uses it most, and a version
number.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbcnn.devices import HOST, Device
from nbcnn.errors import InputError
from nbcnn.filemap import fresh
from nbcnn.memory import aligned_array

__all__ = ["Parameter", "Storage"]


@dataclass(frozen=True)
class Storage:
    """A kernel's own order of a weight's elements.

    key: equal for equal orders. size: elements stored, padding included. pack: ONNX array -> flat storage; unpack:
    the inverse.
    """

    key: tuple[object, ...]
    size: int
    pack: Callable[[np.ndarray], np.ndarray]
    unpack: Callable[[np.ndarray], np.ndarray]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Storage) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


class Parameter:
    """A weight, a scale, a bias, a running statistic.

    Until it is changed, or stored otherwise, it can be made again from the array that it comes from (`origin`): it
    reads that array's memory where that is the same, and lets go of a copy (`release`) when the kernels have packed it.

    name: the initializer's. device: where the master array lies. shape: ONNX's. version: grows with every change;
    whatever is derived from the master remembers the version it was made from. changes: another number after any change
    of any parameter.
    """

    changes = 0
    _numbers = itertools.count(1)

    def __init__(self, name: str, array: np.ndarray, dtype: np.dtype, device: Device = HOST) -> None:
        self.name = name
        self.device = device
        self.shape = array.shape
        self.dtype = np.dtype(dtype)
        self.storage: Storage | None = None
        self._version = 0
        self._origin: np.ndarray | None = array
        self._master: Any = None
        self._released: Callable[[], Any] = lambda: None

    @property
    def version(self) -> int:
        return self._version

    @version.setter
    def version(self, number: int) -> None:
        self._version = number
        Parameter.changes = next(Parameter._numbers)

    @property
    def size(self) -> int:
        """Elements of the weight itself, without a storage's padding."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def stored_size(self) -> int:
        """Elements of the master array."""
        return self.size if self.storage is None else self.storage.size

    @property
    def data(self) -> Any:
        """The flat master array, which kernels read and optimizers write.

        Raises FileError where it must be read again from a file that has been written to.
        """
        if self._master is None:
            self._master = self._released()
        if self._master is None:
            assert self._origin is not None, self.name
            self._master = self.device.put(self._flat(fresh(self._origin)))
        return self._master

    def _flat(self, array: np.ndarray) -> np.ndarray:
        """The array's own memory where it is as kernels need it, else a copy."""
        if array.dtype == self.dtype and array.flags.c_contiguous:
            return array.reshape(-1)
        copy = aligned_array(self.size, self.dtype)
        copy.reshape(self.shape)[...] = array
        return copy

    def _on_host(self) -> np.ndarray:
        """The master array, to be read only."""
        array: np.ndarray = self.data if self.device is HOST else self.device.read(self.data)
        return array

    def release(self) -> None:
        """Forget the master array until it is asked for, if it can be made again; whoever holds it still has it."""
        if self._origin is not None and self._master is not None:
            self._released, self._master = weakref.ref(self._master), None

    def is_master(self, array: Any) -> bool:
        """Whether this is the master array (which is not read for the question)."""
        return array is (self._released() if self._master is None else self._master)

    @property
    def value(self) -> np.ndarray:
        """A copy of the weight in ONNX order; what is assigned (any array of that shape) is the new weight.

        Raises InputError for another shape.
        """
        if self.storage is not None:
            return self.storage.unpack(self._on_host()).reshape(self.shape)
        held = self._master is not None
        copy = aligned_array(self.size, self.dtype)
        copy[:] = self._on_host()
        if not held:
            self.release()
        return copy.reshape(self.shape)

    @value.setter
    def value(self, array: np.ndarray) -> None:
        array = np.asarray(array, self.dtype)
        if array.shape != self.shape:
            raise InputError(f"weight {self.name!r} has shape {list(self.shape)}, not {list(array.shape)}")
        self.own()
        self.device.write(self.data, array.reshape(-1) if self.storage is None else self.storage.pack(array))
        self.version += 1

    def store_as(self, storage: Storage | None) -> None:
        """Keep the master in this order from now on (a new array: plans that hold the old one are void)."""
        if storage == self.storage:
            return
        plain = self._on_host() if self.storage is None else self.storage.unpack(self._on_host())
        self._master = self.device.put(
            plain.reshape(-1) if storage is None else storage.pack(plain.reshape(self.shape))
        )
        self._origin, self.storage = None, storage
        self.version += 1

    def own(self) -> None:
        """Make sure that the master array is nobody else's, so that it can be written to (a new array, if it was)."""
        if self._origin is not None:
            shared = self.device is HOST and np.may_share_memory(self.data, self._origin)
            self._master = self.data.copy() if shared else self.data
            self._origin = None
            Parameter.changes = next(Parameter._numbers)
