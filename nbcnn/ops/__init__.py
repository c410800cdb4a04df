"""Every operator of the engine. A family's file registers its operators; the list of families is here."""

from __future__ import annotations

from importlib import import_module

from nbcnn.ops.base import REGISTRY, Facts, Op, lookup

__all__ = ["FAMILIES", "REGISTRY", "Facts", "Op", "lookup"]

FAMILIES = (
    "conv",
    "gemm",
    "layout",
    "packing",
    "reshape",
)

for _family in FAMILIES:
    import_module(f"nbcnn.ops.{_family}")
