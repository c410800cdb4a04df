"""Every operator of the engine. A family's file registers its operators; the list of families is here."""

from __future__ import annotations

from importlib import import_module

from nbcnn.ops.base import REGISTRY, Facts, Op, lookup

__all__ = ["FAMILIES", "REGISTRY", "Facts", "Op", "lookup"]

FAMILIES = (
    "arithmetic",
    "batch_lanes",
    "batch_norm",
    "col2im",
    "concat",
    "constant",
    "conv",
    "conv_transpose",
    "deform_conv",
    "dropout",
    "einsum",
    "elementwise",
    "expand",
    "gemm",
    "integer",
    "indexed",
    "integer_conv",
    "inverted_residual",
    "layout",
    "logic",
    "lrn",
    "loss",
    "matmul",
    "norm",
    "packing",
    "pad",
    "planes",
    "pool",
    "prelu",
    "quantize",
    "ranking",
    "reduce",
    "requantize",
    "reshape",
    "resize",
    "roi",
    "sample",
    "select",
    "slice",
    "softmax",
    "sparse",
    "take",
    "transpose",
    "unpool",
    "update",
    "winograd",
)

for _family in FAMILIES:
    import_module(f"nbcnn.ops.{_family}")
