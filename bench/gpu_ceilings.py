"""What a GPU can do at most: products on tensor cores and on plain cores by loops in registers, and copies.

`mma.sync` is what kernels compiled by Numba multiply with; the data sheet's figure for tensor cores is that of Hopper's
own instructions, of which it reaches some two thirds there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from bench.gpu_sections import Item, Settings
from nbcnn.report import gpu

__all__ = ["SHEETS", "ceilings", "describe_gpu"]

SHEETS: dict[str, dict[str, float]] = {
    "H100 80GB HBM3": {"tf32": 494.7, "fp16": 989.4, "bf16": 989.4, "fp32": 66.9, "copy": 3352},
    "H100 PCIe": {"tf32": 378, "fp16": 756, "bf16": 756, "fp32": 51.2, "copy": 2039},
    "H200": {"tf32": 494.7, "fp16": 989.4, "bf16": 989.4, "fp32": 66.9, "copy": 4800},
    "A100-SXM4-80GB": {"tf32": 156, "fp16": 312, "bf16": 312, "fp32": 19.5, "copy": 2039},
    "A100-SXM4-40GB": {"tf32": 156, "fp16": 312, "bf16": 312, "fp32": 19.5, "copy": 1555},
}
"""NVIDIA's data sheets, dense, by what the device's name ends with: TFLOP/s, and GB/s of memory."""

CEILINGS: dict[str, tuple[Callable[[bool], float], str, str]] = {
    "copy": (gpu.copy_gbytes, "GB/s", "the driver's copy of 1 GiB, read and written"),
    "fp32": (gpu.multiply_add_tflops, "TFLOP/s", f"{gpu.SUMS} fused multiply-adds under way in each thread"),
    **{
        how: (partial(gpu.tensor_tflops, how), "TFLOP/s", f"mma.sync.m{m}n{n}k{k} on registers")
        for how, (m, n, k) in gpu.SHAPES.items()
    },
}
"""Measured how, in what, and in words."""


def describe_gpu() -> dict[str, Any]:
    """The GPU as a report keeps it, with its data sheet and the peer's versions."""
    from nbcnn.kernels.cuda._cuda import TARGET

    found = gpu.describe_gpu()
    if TARGET != "gpu":
        return found
    import torch

    sheet = next((sheet for end, sheet in SHEETS.items() if found["name"].endswith(end)), {})
    return found | {
        "torch_cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "data_sheet": sheet,
    }


def ceilings(settings: Settings) -> Iterator[Item]:
    for name in CEILINGS:
        yield Item(name, lambda name=name: _row(name, settings))  # type: ignore[misc]


def _row(name: str, settings: Settings) -> dict[str, Any]:
    measure, unit, how = CEILINGS[name]
    sheet = describe_gpu().get("data_sheet", {}).get(name)
    return {"ceiling": name, "rate": measure(settings.trial), "unit": unit, "how": how, "data_sheet": sheet}
