"""The one file that imports Numba's CUDA target, and what all CUDA kernels are made with.

The target is one of three, which the environment variable NBCNN_CUDA names:

- "gpu" (default): the machine's first GPU;
- "simulator": Numba's simulator, which runs device code as Python, a thread for each thread. It knows no types, no
  warps and no inline PTX: kernels that use those have a plain form for it (`if SIMULATED`);
- "ptx": no device at all. Arrays are NumPy's, and a launch compiles its kernel to PTX for the compute capabilities
  ARCHITECTURES and runs nothing. So a machine without a GPU can tell whether all kernels of a plan compile, with the
  types that the plan gives them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba.core import config

from nbcnn.kernels.cuda.disk import kernel_cache

ARCHITECTURES = ((8, 0), (9, 0))
"""Compute capabilities that target "ptx" compiles for."""

TARGET = os.environ.get("NBCNN_CUDA", "gpu")
SIMULATED = TARGET == "simulator"
if SIMULATED:
    config.ENABLE_CUDASIM = 1
config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # a small grid is what small networks have

from llvmlite import ir  # noqa: E402 (the target is chosen by then)
from numba import cuda, types  # noqa: E402

if SIMULATED:
    intrinsic: Any = None  # code that is not Python: there is none in the simulator
else:
    from numba.cuda.extending import intrinsic  # type: ignore[no-redef]
if TARGET == "ptx":
    # A device function asks the machine's GPU for its compute capability when it is first called, and does not use it.
    from numba.cuda import dispatcher

    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=ARCHITECTURES[0])

__all__ = [
    "ARCHITECTURES",
    "BLOCK",
    "COMPILED",
    "SIMULATED",
    "TARGET",
    "WAVES",
    "Kernel",
    "Narrow",
    "cuda",
    "device",
    "intrinsic",
    "ir",
    "kernel",
    "launch",
    "launching_apart",
    "spread",
    "stream",
    "types",
]

BLOCK = 32 if SIMULATED else 256
"""Threads of a block, where a kernel has no reason for another number (a power of two)."""

WAVES = 2 if SIMULATED else 16384
"""Blocks of a grid whose threads go on to the next element, at the most: so many that the GPU is full to the end."""

COMPILED: dict[tuple[str, str, tuple[int, int]], str] = {}
"""What target "ptx" has compiled: module and name of a kernel, its signature, compute capability -> PTX."""


class Narrow:
    """An array whose elements are kept in fewer bits than device code computes them in: see halves.py.

    bits: the array that a kernel gets the memory of. numba_type: what device code takes it for.
    """

    bits: Any

    def numba_type(self) -> Any:
        raise NotImplementedError

    @property
    def _numba_type_(self) -> Any:
        return self.numba_type()

    @staticmethod
    def prepare_args(kind: Any, value: Any, **_: Any) -> tuple[Any, Any]:
        """An argument of a launch as Numba knows how to hand it over."""
        if isinstance(value, Narrow):
            return types.Array(types.uint16, 1, "C"), value.bits
        return kind, value


@cache
def _common_stream() -> Any:
    return cuda.stream()


_thread = threading.local()


def stream() -> Any:
    """The stream that everything is started in, and not the default stream; or that of `launching_apart`."""
    found = getattr(_thread, "stream", None)
    return _common_stream() if found is None else found


@contextmanager
def launching_apart() -> Iterator[Any]:
    """While this lasts, what this thread starts goes into a stream of its own, which is given: a CUDA graph that was
    captured in the common one would also get what other threads start meanwhile.
    """
    if not hasattr(_thread, "apart"):
        _thread.apart = cuda.stream()
    _thread.stream = _thread.apart
    try:
        yield _thread.apart
    finally:
        _thread.stream = None


class Kernel:
    """Device code that a launcher starts; compiled for each set of argument types when it is first launched."""

    def __init__(self, function: Callable[..., None], registers: int | None) -> None:
        self.function = function
        self.name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        options: dict[str, Any] = {} if SIMULATED else {"extensions": [Narrow]}
        if registers is not None and not SIMULATED:
            options["max_registers"] = registers
        self.code = cuda.jit(function, **options)
        if TARGET == "gpu":
            with suppress(RuntimeError):  # no folder that can be written to: every process compiles for itself
                self.code._cache = kernel_cache(function)


def kernel(function: Callable[..., None] | None = None, *, registers: int | None = None) -> Any:
    """Decorator of device code that is launched. registers: the most that a thread may take.

    No fastmath: it would let the compiler take it that there are no NaNs, and a diverging run would look healthy.
    """
    if function is None:
        return lambda found: Kernel(found, registers)
    return Kernel(function, registers)


def device(function: Callable[..., Any]) -> Any:
    """Decorator of device code that other device code calls."""
    return cuda.jit(function, device=True)


def launch(
    code: Kernel, blocks: int | tuple[int, ...], threads: int | tuple[int, ...], *args: Any, shared: int = 0
) -> None:
    """Start a kernel on a grid of blocks (none starts nothing). args: flat arrays, NumPy scalars (their type is the
    element type), Python integers (64 bits) and tuples of those. shared: bytes of what it takes as
    `cuda.shared.array(0, ...)`.
    """
    if np.prod(blocks) == 0:
        return
    if TARGET == "ptx":
        _compile(code, args)
        return
    code.code[blocks, threads, stream(), shared](*args)


def spread(code: Kernel, count: int, *args: Any) -> None:
    """Start a kernel whose threads share out `count` elements among themselves:

    `for i in range(cuda.grid(1), count, cuda.gridsize(1))`.
    """
    launch(code, min(-(-count // BLOCK), WAVES), BLOCK, *args)


def _compile(code: Kernel, args: tuple[Any, ...]) -> None:
    signature = tuple(_type_of(a) for a in args)
    for capability in ARCHITECTURES:
        key = (code.name, str(signature), capability)
        if key not in COMPILED:
            COMPILED[key], _ = cuda.compile_ptx(code.function, signature, cc=capability)


def _type_of(argument: Any) -> Any:
    """The type that a launch would give a kernel's parameter."""
    if isinstance(argument, Narrow):
        return argument.numba_type()
    if isinstance(argument, np.ndarray):
        return types.Array(_scalar(argument.dtype), argument.ndim, "C")
    if isinstance(argument, tuple):
        return types.Tuple.from_types([_type_of(a) for a in argument])
    if isinstance(argument, np.generic):
        return _scalar(argument.dtype)
    if isinstance(argument, bool):
        return types.boolean
    return {int: types.int64, float: types.float64}[type(argument)]


def _scalar(dtype: np.dtype) -> Any:
    return types.boolean if dtype == np.bool_ else getattr(types, dtype.name)
