"""Weights: one master array each, in ONNX order or in the order of the kernel that uses it most, and a version
number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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

    It reads the memory of the array that it is made from, where the type is the same, until it is changed or stored
    otherwise.

    name: the initializer's. shape: ONNX's. data: the flat master array that kernels read and optimizers write.
    version: grows with every change; whatever is derived from the master remembers the version it was made from.
    """

    def __init__(self, name: str, array: np.ndarray, dtype: np.dtype) -> None:
        self.name = name
        self.shape = array.shape
        self.stored_dtype = array.dtype
        self.dtype = np.dtype(dtype)
        self.storage: Storage | None = None
        self.data = np.ascontiguousarray(array, dtype=dtype).reshape(-1)
        self.version = 0
        self._borrowed = np.shares_memory(self.data, array)

    @property
    def size(self) -> int:
        """Elements of the weight itself, without a storage's padding."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def value(self) -> np.ndarray:
        """A copy of the weight in ONNX order."""
        if self.storage is None:
            return self.data.reshape(self.shape).copy()
        return self.storage.unpack(self.data).reshape(self.shape)

    @value.setter
    def value(self, array: np.ndarray) -> None:
        array = np.asarray(array, self.dtype)
        if array.shape != self.shape:
            raise ValueError(f"{self.name!r} has shape {self.shape}, not {array.shape}")
        self.own()
        self.data[:] = array.reshape(-1) if self.storage is None else self.storage.pack(array)
        self.version += 1

    def store_as(self, storage: Storage | None) -> None:
        """Keep the master in this order from now on (a new array: plans that hold the old one are void)."""
        if storage == self.storage:
            return
        value = self.value
        self._borrowed = False
        self.storage = storage
        self.data = value.reshape(-1) if storage is None else storage.pack(value)
        self.version += 1

    def own(self) -> None:
        """Make sure that the master array is nobody else's, so that it can be written to (a new array, if it was)."""
        if self._borrowed:
            self.data, self._borrowed = self.data.copy(), False
