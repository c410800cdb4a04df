"""The gradient by the weights of a 1x1 convolution of stride 1, or of Gemm: a product whose long side is the pixels.

It is a convolution's gradient with one tap that does not move.
"""

from __future__ import annotations

from typing import Any

from nbcnn.kernels.cuda.conv_grad import Products

__all__ = ["pointwise_weight_grad", "pointwise_weight_grad_fp32"]


def pointwise_weight_grad(x, dy, dw, scratch, dims, schedule):
    """dw[c, o] = sum over rows of x[row, c] * dy[row, o], packed as the weights are.

    As on the CPU, but scratch is room for schedule[1] times dw: for so many parts of the rows, if it is more than one.
    float32 is multiplied in TF32.
    """
    _products(x, dy, dw, scratch, dims, schedule).start(exact=False)


def pointwise_weight_grad_fp32(x, dy, dw, scratch, dims, schedule):
    """pointwise_weight_grad, not in TF32."""
    _products(x, dy, dw, scratch, dims, schedule).start(exact=True)


def _products(x: Any, dy: Any, dw: Any, scratch: Any, dims: tuple[int, ...], schedule: tuple[int, ...]) -> Products:
    rows, depth, channels = dims
    source, outer = (1, 1, rows, depth, depth, 1, 1, 1), (1, 1, 1, rows, channels)
    return Products(x, dy, dw, x, scratch, source, outer, (1, channels, 1), schedule[1], dense=True)
