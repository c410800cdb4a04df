"""Output sizes, auto_pad and sliding windows, as ONNX Conv-22, MaxPool-22 and AveragePool-22 define them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference._float64 import Array

Ints = Sequence[int]


def output_size(
    size: int,
    kernel: int,
    stride: int = 1,
    pad_begin: int = 0,
    pad_end: int = 0,
    dilation: int = 1,
    *,
    ceil_mode: int = 0,
) -> int:
    """How many windows fit along one axis: (size + pads - extent) / stride + 1, rounded down, or up with ceil_mode.

    Rounded up, a window that would start in the padding on the right (or beyond) is dropped, as in PyTorch and, since
    opset 22, in ONNX.
    """
    extent = (kernel - 1) * dilation + 1
    room = size + pad_begin + pad_end - extent
    if room < 0:
        raise ValueError(f"a window of extent {extent} does not fit into {size} + {pad_begin} + {pad_end} pixels")
    if not ceil_mode:
        return room // stride + 1
    out = math.ceil(room / stride) + 1
    return out - 1 if (out - 1) * stride >= size + pad_begin else out


def auto_pads(sizes: Ints, kernel: Ints, strides: Ints, dilations: Ints, auto_pad: str) -> list[int]:
    """The pads [begin..., end...] that SAME_UPPER, SAME_LOWER or VALID stand for.

    SAME: the output has ceil(size / stride) pixels; an odd pixel of padding goes last (UPPER) or first (LOWER).
    """
    if auto_pad == "VALID":
        return [0] * (2 * len(sizes))
    if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"auto_pad {auto_pad!r}")
    begins, ends = [], []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        out = math.ceil(size / stride)
        total = max(0, (out - 1) * stride + (k - 1) * dilation + 1 - size)
        small, large = total // 2, total - total // 2
        begins.append(small if auto_pad == "SAME_UPPER" else large)
        ends.append(large if auto_pad == "SAME_UPPER" else small)
    return begins + ends


@dataclass(frozen=True)
class Windows:
    """Windows that slide over the spatial axes of (N, C, sizes...): one number an axis in each field."""

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    out: tuple[int, ...]

    def taps(self) -> Iterator[tuple[Any, Any]]:
        """For each position in the kernel, in row-major order: its index (..., i, j), and the slices that cut
        from a padded array the pixels (N, C, out...) that this position meets."""
        for tap in itertools.product(*map(range, self.kernel)):
            cuts = (
                slice(k * d, k * d + (o - 1) * s + 1, s)
                for k, d, s, o in zip(tap, self.dilations, self.strides, self.out, strict=True)
            )
            yield (..., *tap), (..., *cuts)

    def pad(self, x: Array, value: float = 0.0) -> Array:
        """x (N, C, sizes...) with its padding, and more on the right as far as the last window (ceil_mode) reaches."""
        widths = [(0, 0)] * (x.ndim - len(self.sizes))
        for size, k, s, d, begin, end, out in zip(
            self.sizes, self.kernel, self.strides, self.dilations, self.begins, self.ends, self.out, strict=True
        ):
            reach = (out - 1) * s + (k - 1) * d + 1
            widths.append((begin, max(end, reach - size - begin)))
        return np.pad(x, widths, constant_values=value)

    def crop(self, padded: Array) -> Array:
        """What `pad` was given."""
        inside: tuple[Any, ...] = tuple(slice(b, b + n) for b, n in zip(self.begins, self.sizes, strict=True))
        return padded[(..., *inside)]


def windows(
    sizes: Ints,
    kernel: Ints,
    strides: Ints | None = None,
    pads: Ints | None = None,
    dilations: Ints | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
) -> Windows:
    """The windows of a convolution or a pooling with these ONNX attributes."""
    rank = len(sizes)
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    if auto_pad not in ("NOTSET", ""):
        # ONNX's text gives VALID the same size for either ceil_mode; its shape inference and onnxruntime round up.
        pads = auto_pads(sizes, kernel, strides, dilations, auto_pad)
    pads = pads or [0] * (2 * rank)
    begins, ends = pads[:rank], pads[rank:]
    out = [
        output_size(*axis, ceil_mode=ceil_mode)
        for axis in zip(sizes, kernel, strides, begins, ends, dilations, strict=True)
    ]
    fields = (sizes, kernel, strides, dilations, begins, ends, out)
    return Windows(*(tuple(int(n) for n in values) for values in fields))
