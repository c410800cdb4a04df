"""What a GPU can do at most: products on tensor cores and on plain cores by loops in registers, and copies.

`mma.sync` is what kernels compiled by Numba multiply with; the data sheet's figure for tensor cores is that of Hopper's
own instructions, of which it reaches some two thirds there.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bench.gpu_sections import Item, Settings

__all__ = ["SHEETS", "ceilings", "describe_gpu"]

SHEETS: dict[str, dict[str, float]] = {
    "H100 80GB HBM3": {"tf32": 494.7, "fp32": 66.9, "copy": 3352},
    "H100 PCIe": {"tf32": 378, "fp32": 51.2, "copy": 2039},
    "H200": {"tf32": 494.7, "fp32": 66.9, "copy": 4800},
    "A100-SXM4-80GB": {"tf32": 156, "fp32": 19.5, "copy": 2039},
    "A100-SXM4-40GB": {"tf32": 156, "fp32": 19.5, "copy": 1555},
}
"""NVIDIA's data sheets, dense, by what the device's name ends with: TFLOP/s, and GB/s of memory."""
TF32_FLOPS, FP32_FLOPS = 2 * 16 * 8 * 8, 2
"""Of one warp's product, and of one thread's multiply-add."""
TILES = 2, 4
"""Of products that a warp has under way, so that none waits for the one before."""
SUMS = 16
"""Multiply-adds that a thread has under way."""


def describe_gpu() -> dict[str, Any]:
    """The GPU as a report keeps it."""
    from nbcnn.kernels.cuda._cuda import TARGET, cuda

    if TARGET != "gpu":
        return {"name": f"none (target {TARGET!r}: times are the host's, and mean nothing)"}
    import torch

    device = cuda.get_current_device()
    name = device.name.decode() if isinstance(device.name, bytes) else str(device.name)
    free, total = cuda.current_context().get_memory_info()
    return {
        "name": name,
        "compute_capability": list(device.compute_capability),
        "multiprocessors": device.MULTIPROCESSOR_COUNT,
        "memory_bytes": int(total),
        "free_bytes": int(free),
        "torch_cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "data_sheet": next((sheet for end, sheet in SHEETS.items() if name.endswith(end)), {}),
    }


def ceilings(settings: Settings) -> Iterator[Item]:
    for name, make in (("copy", _copy), ("fp32", _fp32), ("tf32", _tf32)):
        yield Item(name, lambda name=name, make=make: _row(name, *make(settings)))  # type: ignore[misc]


def _row(name: str, rate: float, unit: str, how: str) -> dict[str, Any]:
    sheet = describe_gpu().get("data_sheet", {}).get(name)
    return {"ceiling": name, "rate": rate, "unit": unit, "how": how, "data_sheet": sheet}


def _seconds(work: Callable[[], None], settings: Settings) -> float:
    from nbcnn.kernels.cuda import runtime

    runtime.spans(work, 3)
    return statistics.median(runtime.spans(work, 3 if settings.trial else 20))


def _copy(settings: Settings) -> tuple[float, str, str]:
    """GB/s, bytes read and bytes written, of the driver's copy within the GPU's memory."""
    from nbcnn.kernels.cuda import runtime

    size = 1 << (12 if settings.trial else 30)
    x, y = runtime.upload(np.zeros(size, np.uint8)), runtime.allocate(size)
    seconds = _seconds(lambda: runtime.overwrite(y, x), settings)
    return 2 * size / seconds / 1e9, "GB/s", "the driver's copy of 1 GiB, read and written"


def _loops(settings: Settings) -> tuple[int, int, int]:
    """Blocks, threads, turns."""
    if settings.trial:
        return 1, 32, 2
    return describe_gpu()["multiprocessors"] * 8, 256, 4096


def _fp32(settings: Settings) -> tuple[float, str, str]:
    from bench.gpu_loops import multiply_add
    from nbcnn.kernels.cuda import runtime
    from nbcnn.kernels.cuda._cuda import launch

    blocks, threads, turns = _loops(settings)
    y, start = runtime.allocate(4 * blocks * threads).view(np.float32), (np.float32(0.5),) * SUMS
    seconds = _seconds(lambda: launch(multiply_add, blocks, threads, y, turns, start), settings)
    rate = blocks * threads * turns * SUMS * FP32_FLOPS / seconds / 1e12
    return rate, "TFLOP/s", f"{SUMS} fused multiply-adds under way in each thread"


def _tf32(settings: Settings) -> tuple[float, str, str]:
    from bench.gpu_loops import multiply_tiles
    from nbcnn.kernels.cuda import runtime
    from nbcnn.kernels.cuda._cuda import launch

    blocks, threads, turns = _loops(settings)
    y, (rows, columns) = runtime.allocate(4 * blocks * threads).view(np.float32), TILES
    shape = (np.float32(0.5),) * rows, (np.float32(0.5),) * columns
    seconds = _seconds(lambda: launch(multiply_tiles, blocks, threads, y, turns, *shape), settings)
    products = blocks * threads // 32 * turns * rows * columns
    return products * TF32_FLOPS / seconds / 1e12, "TFLOP/s", "mma.sync.m16n8k8 on registers"
