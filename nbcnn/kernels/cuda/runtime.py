"""The GPU's memory, its one stream, and CUDA graphs, for the engine. Targets: see _cuda.py.

All work goes into one stream, so that it runs in the order in which it was started.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from itertools import pairwise
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np

from nbcnn.kernels.cuda._cuda import SIMULATED, TARGET, cuda, kernel, launch, launching_apart, stream
from nbcnn.kernels.cuda.halves import KINDS, HalfArray

__all__ = [
    "GraphRun",
    "adopt",
    "allocate",
    "capture",
    "download",
    "free_bytes",
    "is_device_array",
    "is_out_of_memory",
    "overwrite",
    "problem",
    "spans",
    "synchronize",
    "upload",
    "view",
]

CUDA_DEVICE = 2
"""kDLCUDA, DLPack's number of the kind of device."""
NO_MEMORY = 2
"""CUDA_ERROR_OUT_OF_MEMORY."""
OLD_DRIVER = (35, 222, 803)
"""CUDA_ERROR_INSUFFICIENT_DRIVER (the runtime's number), _UNSUPPORTED_PTX_VERSION, _SYSTEM_DRIVER_MISMATCH."""


@kernel
def _one(y):
    y[0] = 1


@cache
def problem() -> str | None:
    """Why kernels cannot be run here, and what to do; None where they can. A kernel is run to know."""
    if TARGET != "gpu":
        return None
    if not cuda.is_available():
        return f"there is no GPU that CUDA can use here ({_first_line(cuda.cuda_error()) or 'no driver'})"
    try:
        y = upload(np.zeros(1, np.int32))
        launch(_one, 1, 1, y)
        synchronize()
        return None if download(y)[0] == 1 else "a test kernel ran on the GPU and wrote nothing"
    except Exception as error:
        if getattr(error, "code", None) in OLD_DRIVER or "unsupported toolchain" in str(error):
            return (
                "the GPU's driver is older than the CUDA that kernels are compiled with: install nbcnn[cuda12] in "
                "place of nbcnn[cuda13], or a newer driver"
            )
        return f"a test kernel does not run on the GPU: {_first_line(error)}"


def _first_line(error: object) -> str:
    return "" if error is None else str(error).strip().partition("\n")[0]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the GPU has no such memory."""
    return getattr(error, "code", None) == NO_MEMORY or isinstance(error, MemoryError)


def allocate(size: int) -> Any:
    """So many bytes, flat and uninitialized; they start at a multiple of 256."""
    return np.empty(size, np.uint8) if TARGET == "ptx" else cuda.device_array(max(size, 1), np.uint8)[:size]


def upload(array: np.ndarray) -> Any:
    """The array, flat or not, in the GPU's memory."""
    if TARGET == "ptx":
        return array.copy()
    return cuda.to_device(np.ascontiguousarray(array), stream=stream())


def view(memory: Any, dtype: np.dtype) -> Any:
    """Flat bytes as elements of a type; floats of 16 bits as arrays of float32 that are kept so."""
    if dtype in KINDS.values():
        return HalfArray(memory.view(np.uint16), dtype.name)
    return memory.view(dtype)


def overwrite(memory: Any, values: Any) -> None:
    """memory[...] = values, an array of the host or of the GPU of the same number of elements, or a number."""
    if isinstance(memory, HalfArray):
        flat = np.broadcast_to(np.asarray(values, np.float32).reshape(-1), memory.shape)
        with np.errstate(over="ignore"):
            kept = flat.astype(memory.kept)
        overwrite(memory.bits, kept.view(np.uint16))
        return
    if TARGET == "ptx":
        memory.reshape(-1)[...] = np.asarray(values, memory.dtype).reshape(-1)
        return
    if not is_device_array(values):
        values = np.ascontiguousarray(np.broadcast_to(np.asarray(values, memory.dtype), memory.shape))
    if memory.size:
        memory.reshape(-1).copy_to_device(values.reshape(-1), stream=stream())


def download(memory: Any) -> np.ndarray:
    """A copy in the host's memory, once everything that was started is done."""
    if isinstance(memory, HalfArray):
        return download(memory.bits).view(memory.kept).astype(np.float32)
    if TARGET == "ptx":
        return memory.copy()
    if not memory.size:
        return np.empty(memory.shape, memory.dtype)
    array = memory.copy_to_host(stream=stream())
    synchronize()
    return np.array(array, copy=SIMULATED)


def is_device_array(array: Any) -> bool:
    """Whether this lies in a GPU's memory (or says so through __cuda_array_interface__)."""
    if isinstance(array, HalfArray):
        return True
    if SIMULATED:
        return bool(cuda.cudadrv.devicearray.is_cuda_ndarray(array))
    return hasattr(array, "__cuda_array_interface__")


def adopt(given: Any) -> Any:
    """An array of a GPU's memory that another library made, as one of ours, without a copy; None for anything else.

    Taken through __cuda_array_interface__, or DLPack (whose exporter waits for our stream, and we for its).
    """
    if SIMULATED:
        return given if is_device_array(given) else None
    if hasattr(given, "__cuda_array_interface__"):
        return cuda.as_cuda_array(given)
    if hasattr(given, "__dlpack_device__") and given.__dlpack_device__()[0] == CUDA_DEVICE:
        view = _core_utils().StridedMemoryView.from_dlpack(given, stream_ptr=int(stream()))
        item = np.dtype(view.dtype).itemsize
        strides = None if view.strides is None else tuple(s * item for s in view.strides)
        found = SimpleNamespace(
            __cuda_array_interface__={
                "shape": tuple(view.shape),
                "strides": strides,
                "typestr": np.dtype(view.dtype).str,
                "data": (view.ptr, bool(view.readonly)),
                "version": 3,
            },
            owner=(given, view),
        )
        return cuda.as_cuda_array(found)
    return None


def synchronize() -> None:
    """Wait for everything that was started."""
    if TARGET == "gpu":
        stream().synchronize()


def spans(work: Callable[[], Any], calls: int) -> list[float]:
    """Seconds that each of so many calls takes on the GPU, one behind the other, by events in the stream; by the host's
    clock where there is no GPU.
    """
    if TARGET != "gpu":
        clock = [perf_counter()]
        for _ in range(calls):
            work()
            clock.append(perf_counter())
        return [after - before for before, after in pairwise(clock)]
    events = [cuda.event(timing=True) for _ in range(calls + 1)]
    events[0].record(stream())
    for event in events[1:]:
        work()
        event.record(stream())
    events[-1].synchronize()
    return [cuda.event_elapsed_time(before, after) / 1e3 for before, after in pairwise(events)]


def free_bytes() -> int | None:
    """Memory of the GPU that is not taken, None where that is not known."""
    return int(cuda.current_context().get_memory_info().free) if TARGET == "gpu" else None


class GraphRun:
    """A captured sequence of launches, which costs the host one call."""

    def __init__(self, graph: Any, target: Any) -> None:
        self._graph, self._stream = graph, target

    def __call__(self) -> None:
        self._graph.launch(self._stream)


def capture(work: Callable[[], None]) -> GraphRun | None:
    """What `work` launches, as a CUDA graph; nothing runs. None where there is no GPU to capture for.

    Everything that is launched must have been compiled and run before.
    """
    if TARGET != "gpu":
        return None
    core = _core()
    target = core.Stream.from_handle(int(stream()))
    with cuda.defer_cleanup(), launching_apart() as apart:  # memory is not given back in the middle of a capture
        builder = core.Stream.from_handle(int(apart)).create_graph_builder()
        builder.begin_building("thread_local")
        try:
            work()
        finally:
            builder.end_building()
        return GraphRun(builder.complete(), target)


def _core_utils() -> Any:
    return import_module(f"{_core().__name__}.utils")


@cache
def _core() -> Any:
    """The package cuda.core, wherever this version of it is."""
    with suppress(ImportError):
        core = import_module("cuda.core")
        if hasattr(core, "Stream"):
            return core
    return import_module("cuda.core.experimental")
