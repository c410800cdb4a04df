"""The product of rows by packed weights: 1x1 convolution and Gemm."""

from __future__ import annotations

from nbcnn.kernels.cuda import conv

__all__ = ["conv_pointwise", "conv_pointwise_fp32"]

ONE_TAP = (0, 0, 0, 0)
"""A tap without a move, the first in the weights."""


def _as_gather(gather, x, w, bias, residual, y, scratch, dims, low, high):
    """Call conv_gather for a line of pixels."""
    rows, depth, channels, pitch = dims
    grid, source = (1, 1, 1, rows), (1, 1, rows, depth, depth, 1, 1, 1)
    target, weights = (1, 1, rows, pitch, 0, 0, 0, 1, 1, 1), (1, channels, 1)
    gather(x, w, bias, residual, y, ONE_TAP, None, None, scratch, None, grid, source, target, weights, (1,), low, high)


def conv_pointwise(x, w, bias, residual, y, scratch, dims, schedule, low, high):
    """y = clamp(bias + residual + x @ w, low, high); float32 is multiplied on tensor cores, as TF32.

    x (rows, depth), residual and y (rows, channels), bias (channels): flat; bias and residual may be empty, and the
    residual may be y itself. w: panels. dims: (rows, depth, channels, elements from row to row of y and the residual).
    scratch: room for the sums of parts of the depth, if they are to be computed apart (see tiling.py). schedule: not
    used.
    """
    _as_gather(conv.conv_gather, x, w, bias, residual, y, scratch, dims, low, high)


def conv_pointwise_fp32(x, w, bias, residual, y, scratch, dims, schedule, low, high):
    """conv_pointwise in full precision."""
    _as_gather(conv.conv_gather_fp32, x, w, bias, residual, y, scratch, dims, low, high)
