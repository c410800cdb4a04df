"""The kernels that every backend offers: name -> family, which is the name of the module that holds it.

The parameters are those of the functions; a parity test holds the backends equal. Kernels write into arrays that they are
given, allocate nothing and return nothing; outputs are overwritten unless a docstring says that they are added to.
"""

from __future__ import annotations

__all__ = ["KERNELS"]

KERNELS: dict[str, str] = {
    "adam_update": "update",
    "class_loss": "loss",
    "conv_gather": "conv",
    "conv_weight_grad": "conv",
    "count_agreeing": "loss",
    "count_correct": "loss",
    "element_loss": "loss",
    "copy_strided": "copy",
    "fill": "copy",
    "depthwise_gather": "depthwise",
    "depthwise_weight_grad": "depthwise",
    "pack_weights": "pack",
    "max_pool_indices": "pool",
    "pad_channels_last": "pad",
    "pool": "pool",
    "pool_grad": "pool",
    "sgd_update": "update",
    "transpose_matrices": "layout",
    "transpose_weights": "pack",
    "unpack_weights": "pack",
}
