"""Every operator of the engine. A family's file registers its operators; the list of families is here."""

from __future__ import annotations

from importlib import import_module

from nbcnn.ops.base import REGISTRY, Facts, Op, find, full_name, lookup

__all__ = ["FAMILIES", "REGISTRY", "Facts", "Op", "find", "full_name", "lookup"]

FAMILIES = (
    "activations",
    "arithmetic",
    "batch_lanes",
    "batch_norm",
    "bits",
    "cast",
    "col2im",
    "concat",
    "constant",
    "conv",
    "conv_transpose",
    "cumulative",
    "deform_conv",
    "dropout",
    "einsum",
    "elementwise",
    "expand",
    "gemm",
    "indexed",
    "integer",
    "integer_conv",
    "inverted_residual",
    "layout",
    "likelihood",
    "logic",
    "loss",
    "loss_scale",
    "lrn",
    "matmul",
    "norm",
    "one_hot",
    "packing",
    "pad",
    "planes",
    "pool",
    "prelu",
    "quantize",
    "quantized",
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
    "training",
    "transpose",
    "trigonometry",
    "unpool",
    "update",
    "where",
    "winograd",
)

for _family in FAMILIES:
    import_module(f"nbcnn.ops.{_family}")
