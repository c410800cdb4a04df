"""The processor as a device that keeps activations in 16 bits, to see what comes of that rounding without a GPU.

Memory, plans and steps are those of a GPU in that precision; its kernels are the processor's, which get float32 copies
of what is kept in 16 bits, and whose results are rounded to it. So everything is rounded where a GPU rounds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np

from nbcnn import kernels
from nbcnn.devices import HALVES, Device
from nbcnn.kernels.cpu.threads import use
from nbcnn.plan import Plan

__all__ = ["KeptInHalves", "emulated"]


@contextmanager
def emulated(precision: str) -> Iterator[KeptInHalves]:
    """Such a device, of precision "fp16" or "bf16"; while this lasts, networks are lowered as for a GPU."""
    with patch("nbcnn.lower.pictures_in_lanes"), patch("nbcnn.lower.fuse_blocks"):
        yield KeptInHalves(precision)


class _Kept:
    """An array of float32 that is kept in 16 bits."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def reshape(self, *shape: Any) -> _Kept:
        return self


class KeptInHalves(Device):
    """precision: "fp16" or "bf16"."""

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self.kept = HALVES[precision]

    def view(self, memory: Any, dtype: np.dtype) -> Any:
        found = memory.view(dtype)
        return _Kept(found) if dtype in HALVES.values() else found

    def load(self, kernel: str | Callable[..., None]) -> Callable[..., Any]:
        return partial(self._call, kernels.load("cpu", kernel))

    @staticmethod
    def _call(kernel: Callable[..., None], *args: Any) -> None:
        use(1)  # as many as the plan has scratch memory for
        with np.errstate(over="ignore", invalid="ignore"):
            wide = {id(a): a.array.astype(np.float32) for a in args if isinstance(a, _Kept)}
            # One array that comes twice, in place, must be one array.
            same = {a.array.__array_interface__["data"]: id(a) for a in args if isinstance(a, _Kept)}
            given = [wide[same[a.array.__array_interface__["data"]]] if isinstance(a, _Kept) else a for a in args]
            kernel(*given)
            for a in args:
                if isinstance(a, _Kept):
                    a.array[...] = wide[same[a.array.__array_interface__["data"]]].astype(a.array.dtype)

    def execute(self, plan: Plan, start: int, stop: int | None) -> None:
        for kernel, args in plan.steps[start:stop]:
            kernel(*args)
