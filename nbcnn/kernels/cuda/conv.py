"""Convolution as a matrix product over gathered pixels (implicit GEMM), any number of spatial dimensions up to three.

Arrays and their numbers are those of nbcnn/kernels/cpu/conv.py.
"""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda import plain_conv, tensor_conv
from nbcnn.kernels.cuda._cuda import SIMULATED
from nbcnn.kernels.cuda.panels import panels_of

__all__ = ["conv_gather", "conv_gather_fp32"]


def _convolve(exact, x, w, bias, residual, y, taps, spill, grid, source, target, weights, schedule, low, high):
    panels = panels_of(weights[1], w)
    if SIMULATED or np.dtype(y.dtype) != np.float32:
        plain_conv.convolve(x, w, bias, residual, y, taps, grid, source, target, weights, panels, low, high)
    else:
        tensor_conv.convolve(
            x, w, bias, residual, y, taps, spill, grid, source, target, weights, panels, schedule[0], exact, low, high
        )


def conv_gather(
    x, w, bias, residual, y, taps, zeros, scratch, spill, packed, grid, source, target, weights, schedule, low, high
):
    """y[pixel, :] = clamp(bias + residual[pixel, :] + sum over taps of x[pixel moved by the tap, :] @ w[tap], low,
    high); float32 is multiplied on tensor cores, as TF32.

    x and w may have 16 bits, with w in the order of pairs (panels.py): they are multiplied as they are, with sums in
    float32. residual and y may have them in any case.

    spill: room for the sums of parts of the depth, if they are to be computed apart (see tiling.py). schedule: (1 if no
    tap ever falls off the picture). What the CPU's kernel takes besides, zeros, scratch and packed, is not used.
    """
    _convolve(False, x, w, bias, residual, y, taps, spill, grid, source, target, weights, schedule, low, high)


def conv_gather_fp32(
    x, w, bias, residual, y, taps, zeros, scratch, spill, packed, grid, source, target, weights, schedule, low, high
):
    """conv_gather in full precision."""
    _convolve(True, x, w, bias, residual, y, taps, spill, grid, source, target, weights, schedule, low, high)
