"""The GPU in a report: what it is, and what it can do at most."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from nbcnn.devices import HALVES

__all__ = ["SHAPES", "copy_gbytes", "describe_gpu", "multiply_add_tflops", "product_tflops", "put_gpu", "tensor_tflops"]

SHAPES = {"tf32": (16, 8, 8), "fp16": (16, 8, 16), "bf16": (16, 8, 16)}
"""Rows, columns and depth of one warp's product on tensor cores, by precision."""
FP32_FLOPS = 2
"""Of one thread's multiply-add."""
TILES = 2, 4
"""Of products that a warp has under way, so that none waits for the one before."""
SUMS = 16
"""Multiply-adds that a thread has under way."""


def describe_gpu() -> dict[str, Any]:
    """Name, compute capability, multiprocessors and memory of the first GPU."""
    from nbcnn.kernels.cuda._cuda import TARGET, cuda

    if TARGET != "gpu":
        return {"name": f"none (target {TARGET!r}: times are the host's, and mean nothing)", "multiprocessors": 1}
    device = cuda.get_current_device()
    free, total = cuda.current_context().get_memory_info()
    return {
        "name": device.name.decode() if isinstance(device.name, bytes) else str(device.name),
        "compute_capability": list(device.compute_capability),
        "multiprocessors": device.MULTIPROCESSOR_COUNT,
        "memory_bytes": int(total),
        "free_bytes": int(free),
    }


def put_gpu(machine: dict[str, Any], precision: str, quick: bool = False) -> None:
    """Let a described machine tell of its GPU, and have that one's ceilings: `fma_gflops` in this precision, and of
    memory the driver's copy.
    """
    machine["gpu"] = describe_gpu()
    count = str(machine["threads"])
    machine["fma_gflops"] = {count: 1e3 * product_tflops(precision, quick)}
    machine["triad_gbytes"] = {count: copy_gbytes(quick)}


def copy_gbytes(quick: bool = False) -> float:
    """GB/s, bytes read and bytes written, of the driver's copy of 1 GiB within the GPU's memory."""
    from nbcnn.kernels.cuda import runtime

    size = 1 << (20 if quick else 30)
    x, y = runtime.upload(np.zeros(size, np.uint8)), runtime.allocate(size)
    return 2 * size / _seconds(lambda: runtime.overwrite(y, x), quick) / 1e9


def product_tflops(precision: str, quick: bool = False) -> float:
    """TFLOP/s of what the kernels of a precision multiply with."""
    return tensor_tflops(precision, quick) if precision in SHAPES else multiply_add_tflops(quick)


def multiply_add_tflops(quick: bool = False) -> float:
    """TFLOP/s of fused multiply-adds of float32 on registers."""
    from nbcnn.kernels.cuda import runtime
    from nbcnn.kernels.cuda._cuda import launch
    from nbcnn.kernels.cuda.ceiling import multiply_add

    blocks, threads, turns = _loops(quick)
    y, start = runtime.allocate(4 * blocks * threads).view(np.float32), (np.float32(0.5),) * SUMS
    seconds = _seconds(lambda: launch(multiply_add, blocks, threads, y, turns, start), quick)
    return blocks * threads * turns * SUMS * FP32_FLOPS / seconds / 1e12


def tensor_tflops(precision: str = "tf32", quick: bool = False) -> float:
    """TFLOP/s of mma.sync, of SHAPES, on registers: what kernels compiled by Numba multiply with. (Hopper has
    instructions of its own, for which its data sheet has a third more.)
    """
    from nbcnn.kernels.cuda import ceiling, runtime
    from nbcnn.kernels.cuda._cuda import launch

    kept = HALVES.get(precision)
    name = "multiply_tiles" if kept is None else f"multiply_tiles_{kept.name}"
    blocks, threads, turns = _loops(quick)
    y, (rows, columns) = runtime.allocate(4 * blocks * threads).view(np.float32), TILES
    factors = (_factor(kept),) * rows, (_factor(kept),) * columns
    seconds = _seconds(lambda: launch(getattr(ceiling, name), blocks, threads, y, turns, *factors), quick)
    return blocks * threads // 32 * turns * rows * columns * 2 * prod(SHAPES[precision]) / seconds / 1e12


def _factor(kept: np.dtype | None) -> np.float32:
    """One half; where factors have 16 bits two of them, in a word that is float32 by name alone."""
    one: np.float32 = np.float32(0.5) if kept is None else np.full(2, 0.5, kept).view(np.float32)[0]
    return one


def _seconds(work: Callable[[], None], quick: bool) -> float:
    from nbcnn.kernels.cuda import runtime

    runtime.spans(work, 3)
    return statistics.median(runtime.spans(work, 3 if quick else 20))


def _loops(quick: bool) -> tuple[int, int, int]:
    """Blocks, threads, turns."""
    from nbcnn.kernels.cuda._cuda import TARGET

    if TARGET != "gpu":
        return 1, 32, 2
    return describe_gpu()["multiprocessors"] * 8, 256, 512 if quick else 4096
