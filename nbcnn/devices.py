"""Where a plan's memory lies and its kernels run.

`HOST` is the processor; nbcnn/gpu.py has the GPU, and is imported when one is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_dtypes import bfloat16

from nbcnn import kernels
from nbcnn.errors import InputError
from nbcnn.memory import aligned_bytes

if TYPE_CHECKING:
    from nbcnn.plan import Plan

__all__ = ["DEVICES", "HALVES", "HOST", "PRECISIONS", "Device", "find_device"]

DEVICES = ("cpu", "cuda", "auto")
HALVES = {"fp16": np.dtype(np.float16), "bf16": np.dtype(bfloat16)}
"""What activations, and factors of products, are kept in by precisions of 16 bits."""
PRECISIONS = ("tf32", "fp32", *HALVES)
"""What a GPU multiplies in: tensor cores, which round factors of float32 to 10 bits; float32 in full; or 16 bits."""


class Device:
    """The processor. Memory is NumPy's, and what is `put` there stays where it is.

    name: how a user calls it. backend: the folder of nbcnn/kernels that its kernels are in.
    """

    name = "cpu"
    backend = "cpu"
    allow_fallback = False
    precision = "fp32"
    kept: np.dtype | None = None
    """What activations are kept in, where that is not what they are computed in."""
    tolerance: float | None = None
    """What a comparison with onnxruntime must allow for, absolute and relative; None for what the types do."""

    def allocate(self, size: int) -> Any:
        """So many bytes, flat and uninitialized."""
        return aligned_bytes(size)

    def put(self, array: np.ndarray) -> Any:
        """The array in this device's memory."""
        return array

    def owns(self, array: Any) -> bool:
        """Whether this is memory of the device, and not an array that has to be put there."""
        return True

    def adopt(self, given: Any) -> Any:
        """An array of another library that lies in this device's memory, as one that `write` takes; None for others."""
        return None

    def view(self, memory: Any, dtype: np.dtype) -> Any:
        """Flat bytes of this device as elements of a type."""
        return memory.view(dtype)

    def write(self, memory: Any, values: Any) -> None:
        """Overwrite memory (of any shape) with values of the same shape, or with one number."""
        memory[...] = values

    def read(self, memory: Any) -> np.ndarray:
        """A copy that is the caller's."""
        return np.array(memory)

    def offers(self, kernel: str | Callable[..., None]) -> bool:
        """Whether it has a kernel of this name."""
        return True

    def load(self, kernel: str | Callable[..., None]) -> Callable[..., Any]:
        """The kernel of this name; a Python function is its own kernel."""
        return kernels.load(self.backend, kernel)

    def execute(self, plan: Plan, start: int, stop: int | None) -> None:
        """Run a range of a plan's steps."""
        for kernel, args in plan.entries[start:stop]:
            kernel(*args)

    def synchronize(self) -> None:
        """Wait until everything that was started is done."""

    def memory_error(self, size: int, error: BaseException) -> str | None:
        """What to tell a user when so many bytes could not be had; None for an error of another kind."""
        if not isinstance(error, MemoryError | OSError | OverflowError | ValueError):
            return None
        return f"{size / 2**30:.3g} GiB of memory for its activations, more than there is"

    def free_bytes(self) -> int | None:
        """Memory that is free, where it matters and is known."""
        return None

    def __repr__(self) -> str:
        return f"<nbcnn device {self.name}>"

    def __reduce__(self) -> Any:
        return find_device, (self.name,)


HOST = Device()


def find_device(name: str | Device, *, precision: str = "tf32", allow_fallback: bool = False) -> Device:
    """The device of a name: "cpu"; "cuda", the first GPU; "auto", a GPU if one works, else the processor.

    precision: one of PRECISIONS, of a GPU's products. allow_fallback: run what has no CUDA kernel on the processor.
    Raises InputError for another name, DeviceError where "cuda" does not work, with what to do about it.
    """
    if isinstance(name, Device):
        return name
    if name not in DEVICES:
        raise InputError(f"device {name!r} is none of {', '.join(DEVICES)}")
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
    if name == "cpu":
        return HOST
    from nbcnn.errors import DeviceError

    try:
        from nbcnn.gpu import find_gpu

        return find_gpu(precision, allow_fallback)
    except DeviceError:
        if name == "cuda":
            raise
        return HOST
