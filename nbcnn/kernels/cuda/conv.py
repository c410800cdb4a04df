"""Convolution as a matrix product over gathered pixels (implicit GEMM), any number of spatial dimensions up to three.

Arrays and their numbers are those of nbcnn/kernels/cpu/conv.py.
"""

from __future__ import annotations

from nbcnn.kernels.cuda import plain_conv
from nbcnn.kernels.cuda.panels import panels_of

__all__ = ["conv_gather", "conv_gather_fp32"]


def conv_gather(
    x, w, bias, residual, y, taps, zeros, scratch, spill, packed, grid, source, target, weights, schedule, low, high
):
    """y[pixel, :] = clamp(bias + residual[pixel, :] + sum over taps of x[pixel moved by the tap, :] @ w[tap], low,
    high); float32 is multiplied on tensor cores, as TF32.

    spill: room for the sums of parts of the depth, if they are to be computed apart (see tiling.py). What the CPU's
    kernel takes besides, zeros, scratch, packed and schedule, is not used.
    """
    plain_conv.convolve(
        x, w, bias, residual, y, taps, grid, source, target, weights, panels_of(weights[1], w), low, high
    )


def conv_gather_fp32(
    x, w, bias, residual, y, taps, zeros, scratch, spill, packed, grid, source, target, weights, schedule, low, high
):
    """conv_gather in full precision."""
    plain_conv.convolve(
        x, w, bias, residual, y, taps, grid, source, target, weights, panels_of(weights[1], w), low, high
    )
