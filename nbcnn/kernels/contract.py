"""The kernels that every backend offers: name -> family, which is the name of the module that holds it.

The parameters are those of the functions; a parity test holds the backends equal. Kernels write into arrays that they
are given, allocate nothing and return nothing; outputs are overwritten unless a docstring says that they are added to.
"""

from __future__ import annotations

__all__ = ["KERNELS"]

KERNELS: dict[str, str] = {
    "adam_update": "update",
    "arithmetic": "arithmetic",
    "batch_conv": "batch_lanes",
    "batch_layout": "batch_lanes",
    "batch_norm_apply": "batch_norm",
    "batch_norm_fold": "batch_norm",
    "batch_norm_input_grad": "batch_norm",
    "batch_norm_statistics": "batch_norm",
    "batch_norm_sums": "batch_norm",
    "batch_toom_conv": "batch_lanes_toom",
    "batch_toom_weights": "batch_lanes_toom",
    "batch_weight_grad": "batch_lanes_grad",
    "class_loss": "loss",
    "conv_gather": "conv",
    "conv_pointwise": "pointwise",
    "conv_weight_grad": "conv_grad",
    "copy_strided": "copy",
    "count_agreeing": "loss",
    "count_correct": "loss",
    "depthwise_gather": "depthwise",
    "depthwise_weight_grad": "depthwise",
    "dropout": "dropout",
    "element_loss": "loss",
    "elementwise": "elementwise",
    "elementwise_grad": "elementwise",
    "fill": "copy",
    "lrn": "lrn",
    "lrn_grad": "lrn",
    "max_pool_indices": "pool",
    "max_pool_tiles": "pool_tiles",
    "max_pool_tiles_grad": "pool_tiles",
    "matmul_batched": "matmul",
    "pack_weights": "pack",
    "pad_channels_last": "pad",
    "planes_conv": "planes",
    "pointwise_weight_grad": "pointwise_grad",
    "pool": "pool",
    "pool_grad": "pool",
    "reduce_max_grad": "reduce",
    "reduce_rows": "reduce",
    "running_average": "batch_norm",
    "sgd_update": "update",
    "softmax": "softmax",
    "softmax_grad": "softmax",
    "sparse_along_axis": "sparse",
    "transpose_matrices": "layout",
    "transpose_weights": "pack",
    "unpack_weights": "pack",
    "vector_product": "vector",
    "winograd_conv": "winograd",
    "winograd_weight_grad": "winograd_grad",
    "winograd_weights": "winograd",
}
