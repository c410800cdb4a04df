"""Every operator of the engine. A family's file registers its operators; the list of families is here."""

from __future__ import annotations

from importlib import import_module

from nbcnn.ops.base import REGISTRY, Facts, Op, lookup

__all__ = ["FAMILIES", "REGISTRY", "Facts", "Op", "lookup"]

FAMILIES = (
    "concat",
    "constant",
    "conv",
    "gemm",
    "layout",
    "loss",
    "packing",
    "reshape",
    "slice",
    "transpose",
    "update",
)

for _family in FAMILIES:
    import_module(f"nbcnn.ops.{_family}")
