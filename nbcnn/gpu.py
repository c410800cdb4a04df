"""A GPU as a device of the engine: memory that stays there, launches that are captured once and replayed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcnn import kernels
from nbcnn.devices import HALVES, Device, find_device
from nbcnn.errors import DeviceError
from nbcnn.kernels.contract import KERNELS
from nbcnn.kernels.cpu.threads import use

if TYPE_CHECKING:
    from nbcnn.plan import Plan

__all__ = ["Gpu", "find_gpu"]

TOLERANCES = {"tf32": 1e-2, "fp16": 1e-2, "bf16": 5e-2}
"""What a comparison with onnxruntime must allow for: factors have 10, 10 and 7 bits behind the leading one."""

INSTALL = "pip install 'nbcnn[cuda13]', or 'nbcnn[cuda12]' for an older driver"


def find_gpu(precision: str, allow_fallback: bool) -> Gpu:
    """The machine's first GPU; raises DeviceError where none works, saying what to do."""
    if find_spec("numba_cuda") is None:
        raise DeviceError(f"device 'cuda' needs numba-cuda, which is not installed: {INSTALL}")
    try:
        from nbcnn.kernels.cuda import runtime
    except ImportError as error:
        raise DeviceError(f"device 'cuda' cannot be used: {error}; install it with {INSTALL}") from error
    problem = runtime.problem()
    if problem:
        raise DeviceError(f"device 'cuda' cannot be used: {problem}")
    return _gpu(precision, allow_fallback)


@cache
def _gpu(precision: str, allow_fallback: bool) -> Gpu:
    return Gpu(precision, allow_fallback)


class Gpu(Device):
    """The first GPU. precision: what is multiplied in. allow_fallback: whether calls that have no kernel here
    are made on the processor, with copies to it and back.
    """

    name = "cuda"
    backend = "cuda"

    def __init__(self, precision: str, allow_fallback: bool) -> None:
        from nbcnn.kernels.cuda import runtime

        self.precision, self.allow_fallback = precision, allow_fallback
        self.tolerance = TOLERANCES.get(precision)
        self.kept = HALVES.get(precision)
        self._runtime = runtime
        self._lock = threading.RLock()

    def __reduce__(self) -> Any:
        return partial(find_device, precision=self.precision, allow_fallback=self.allow_fallback), (self.name,)

    def allocate(self, size: int) -> Any:
        with self._room_for(size):
            return self._runtime.allocate(size)

    def put(self, array: np.ndarray) -> Any:
        with self._room_for(array.nbytes):
            return array if self.owns(array) else self._runtime.upload(array)

    @contextmanager
    def _room_for(self, size: int) -> Iterator[None]:
        """The GPU's own words for full memory become ours."""
        try:
            yield
        except Exception as error:
            if not self._runtime.is_out_of_memory(error):
                raise
            free = self.free_bytes()
            have = "" if free is None else f", of which {free / 2**30:.3g} GiB are free"
            raise DeviceError(f"the GPU's memory{have}, has no room for {size / 2**30:.3g} GiB more") from error

    def owns(self, array: Any) -> bool:
        return self._runtime.is_device_array(array)

    def adopt(self, given: Any) -> Any:
        return self._runtime.adopt(given)

    def view(self, memory: Any, dtype: np.dtype) -> Any:
        return self._runtime.view(memory, dtype)

    def write(self, memory: Any, values: Any) -> None:
        self._runtime.overwrite(memory, values)

    def read(self, memory: Any) -> np.ndarray:
        return self._runtime.download(memory)

    def offers(self, kernel: str | Callable[..., None]) -> bool:
        return isinstance(kernel, str) and kernel in KERNELS and self._find(kernel) is not None

    def load(self, kernel: str | Callable[..., None]) -> Callable[..., Any]:
        found = self._find(kernel) if isinstance(kernel, str) else None
        if found is not None:
            return found
        assert self.allow_fallback, kernel
        return partial(self._on_host, kernels.load("cpu", kernel))

    def _find(self, name: str) -> Callable[..., Any] | None:
        """The launcher of this name. What multiplies on tensor cores has a twin that does not."""
        family = KERNELS[name]
        if find_spec(f"nbcnn.kernels.cuda.{family}") is None:
            return None
        module = import_module(f"nbcnn.kernels.cuda.{family}")
        exact = getattr(module, f"{name}_fp32", None) if self.precision == "fp32" else None
        return exact or getattr(module, name, None)

    def _on_host(self, kernel: Callable[..., None], *args: Any) -> None:
        """A call on the processor: arrays come from the GPU, and those that it has written to go back."""
        here = [self.read(a) if self.owns(a) else a for a in args]
        use(1)  # plans for a GPU have scratch memory for one thread
        before = [a.copy() if isinstance(a, np.ndarray) else None for a in here]
        kernel(*here)
        for memory, old, new in zip(args, before, here, strict=True):
            if old is not None and old.tobytes() != new.tobytes():
                self.write(memory, new)

    def execute(self, plan: Plan, start: int, stop: int | None) -> None:
        """Run the steps: one by one twice, because kernels are compiled the first time, then as a CUDA graph."""
        with self._lock:
            key = start, stop
            run = plan.graphs.get(key)
            if run is None:
                super().execute(plan, start, stop)
                if key in plan.ran and not self._leaves(plan):
                    plan.graphs[key] = self._runtime.capture(partial(super().execute, plan, start, stop))
                plan.ran.add(key)
            else:
                run()

    def _leaves(self, plan: Plan) -> bool:
        """Whether a step is made on the processor, which no CUDA graph holds."""
        return any(isinstance(kernel, partial) for kernel, _ in plan.steps)

    def synchronize(self) -> None:
        self._runtime.synchronize()

    def free_bytes(self) -> int | None:
        return self._runtime.free_bytes()

    def memory_error(self, size: int, error: BaseException) -> str | None:
        if not isinstance(error, DeviceError):
            return None
        free = self.free_bytes()
        have = "" if free is None else f", and {free / 2**30:.3g} GiB are free"
        return f"{size / 2**30:.3g} GiB of the GPU's memory for its activations{have}"
