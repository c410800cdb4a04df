"""The gradient of a convolution by its weights on a GPU: in TF32, float32, float64 and of 16 bits, the pixels in parts.

The kernels are called as nbcnn/ops/gather.py does, on small pictures; the oracle is float64, of inputs rounded the
same.
"""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
import pytest
import reference
from halves import give, rounded
from harness import Case

import nbcnn.ops.gather
from nbcnn.geometry import window
from nbcnn.kernels.cuda import conv_grad, grad_tensor, pointwise_grad, runtime
from nbcnn.kernels.cuda._cuda import TARGET
from nbcnn.kernels.cuda.depthwise import depthwise_weight_grad
from nbcnn.ops.gather import triple, window_taps
from nbcnn.ops.packing import Packing, dense, depthwise, matrix

RNG = np.random.default_rng(9)
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}

Kinds = tuple[str | None, str | None]
"""What x and dy are kept in."""
WHOLE = (None, None)
KINDS = ("float16", "bfloat16")
Sizes = tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], int]
"""x shape, w shape, attributes, parts of the pixels."""

CASES: dict[str, Sizes] = {
    "odd": ((2, 3, 4, 3), (5, 3, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, 1),
    "quads": ((1, 4, 5, 6), (12, 4, 3, 3), {"pads": [1, 1, 1, 1]}, 2),
    "quads of x alone": ((2, 4, 3, 3), (9, 4, 2, 2), {}, 2),
    "quads of dy alone": ((1, 3, 5, 7), (8, 3, 2, 3), {"strides": [2, 2], "pads": [0, 2, 1, 1]}, 1),
    "groups": ((1, 8, 3, 3), (8, 4, 2, 2), {"group": 2, "pads": [1, 0, 1, 0]}, 2),
    "dilated": ((1, 4, 5, 6), (4, 4, 2, 2), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}, 1),
    "1x1 stride": ((2, 6, 5, 4), (5, 6, 1, 1), {"strides": [2, 2]}, 1),
    "more parts than pixels": ((1, 4, 2, 2), (4, 4, 2, 2), {}, 3),
    "many rows and columns": ((1, 20, 2, 3), (68, 20, 2, 2), {}, 1),
    "many columns": ((1, 4, 2, 2), (68, 4, 2, 1), {}, 1),
    "1-D": ((2, 5, 9), (7, 5, 3), {"dilations": [2], "pads": [1, 1]}, 2),
    "3-D": ((1, 4, 3, 2, 3), (5, 4, 2, 1, 2), {"strides": [2, 1, 1], "pads": [1, 0, 1, 1, 0, 0]}, 1),
}

HALVES: dict[str, Sizes] = {
    "16 and 40 channels": ((1, 16, 5, 3), (40, 16, 3, 1), {"pads": [1, 0, 1, 0]}, 2),
    "many pixels": ((1, 2, 14, 13), (6, 2, 2, 1), {}, 1),
    "2 and 6 channels, strided": ((2, 2, 6, 5), (6, 2, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, 1),
    "12 and 20 channels": ((1, 12, 3, 5), (20, 12, 2, 2), {"dilations": [1, 2], "pads": [0, 2, 1, 0]}, 3),
    "groups of 10 and 6": ((1, 20, 3, 3), (12, 10, 2, 2), {"group": 2, "pads": [1, 0, 1, 0]}, 2),
    "1x1 stride": ((2, 6, 5, 4), (10, 6, 1, 1), {"strides": [2, 2]}, 1),
    "more parts than pixels": ((1, 8, 2, 2), (16, 8, 2, 2), {}, 3),
    "many rows and columns": ((1, 24, 2, 3), (72, 24, 2, 2), {}, 1),
    "3-D": ((1, 4, 3, 2, 3), (6, 4, 2, 1, 2), {"strides": [2, 1, 1], "pads": [1, 0, 1, 1, 0, 0]}, 1),
}
"""Channels that fill words of 16 bits: one, two or four at a time."""

LARGE: dict[str, Sizes] = {
    "3x3": ((8, 64, 28, 28), (160, 64, 3, 3), {"pads": [1, 1, 1, 1]}, 12),
    "3x3, strided": ((4, 128, 29, 30), (256, 128, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, 3),
    "1x1, strided": ((16, 256, 14, 14), (512, 256, 1, 1), {"strides": [2, 2]}, 1),
    "groups": ((2, 128, 28, 28), (128, 4, 3, 3), {"group": 32, "pads": [1, 1, 1, 1]}, 3),
}
"""Networks' own sizes, which take a GPU."""


def random(shape: tuple[int, ...], dtype: Any, short: bool) -> np.ndarray:
    """short: numbers that TF32 has too (10 bits of mantissa): then tensor cores lose nothing but in their sums."""
    found = RNG.integers(-1023, 1024, shape) / 1024 if short else RNG.standard_normal(shape)
    return np.asarray(found, dtype)


def close(got: np.ndarray, want: np.ndarray, dtype: Any) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE[dtype] * max(1.0, float(np.abs(want).max())))


class Call:
    """The arrays of a call. What no part writes stays NaN."""

    def __init__(
        self, x: np.ndarray, dy: np.ndarray, taps: np.ndarray, packing: Packing, parts: int, kinds: Kinds = WHOLE
    ) -> None:
        self.packing = packing
        self.x, self.dy = (give(np.moveaxis(a, 1, -1), kind) for a, kind in zip((x, dy), kinds, strict=True))
        self.dw, self.partials = (give(np.full(n * packing.size, np.nan, x.dtype), None) for n in (1, parts))
        self.taps = give(taps, None)

    def gradient(self) -> np.ndarray:
        """What was written, in ONNX order."""
        data = runtime.download(self.dw)
        assert not np.isnan(data).any()
        found: np.ndarray = self.packing.storage().unpack(data)
        return found


def by_convolution(
    kernel: Any, sizes: Sizes, dtype: Any, short: bool = False, kinds: Kinds = WHOLE
) -> tuple[np.ndarray, np.ndarray]:
    """dW of a case and what the oracle says."""
    shape, w, attrs, parts = sizes
    group, x = attrs.get("group", 1), rounded(random(shape, dtype, short), kinds[0])
    win = window(shape[2:], w[2:], attrs.get("strides"), attrs.get("pads"), attrs.get("dilations"))
    packing = dense(group, w[0] // group, w[1], win.kernel, x.itemsize)
    dy = rounded(random((shape[0], w[0], *win.out), dtype, short), kinds[1])
    taps = [(*triple(move, 0), n) for move, n in window_taps(win.kernel, win.dilations, win.begins)]
    call = Call(x, dy, np.array(taps, np.int64), packing, parts, kinds)
    source = (*triple(win.size, 1), shape[1], packing.run, *triple(win.strides, 1))
    outer = (shape[0], *triple(win.out, 1), w[0])
    shapes = source, outer, (group, packing.channels, packing.taps), (1, parts, 0)
    kernel(call.x, call.dy, call.dw, call.taps, call.partials, call.partials, call.partials, *shapes)
    want = reference.conv_backward(*(a.astype(np.float64) for a in (dy, x)), np.zeros(w), **attrs)[1]
    return call.gradient().reshape(w), want


@pytest.mark.parametrize("name", CASES)
def test_on_tensor_cores(name: str) -> None:
    close(*by_convolution(conv_grad.conv_weight_grad, CASES[name], np.float32, short=True), np.float32)


@pytest.mark.parametrize("name", ["odd", "quads", "groups", "many rows and columns"])
def test_in_full_precision(name: str) -> None:
    close(*by_convolution(conv_grad.conv_weight_grad_fp32, CASES[name], np.float32), np.float32)


@pytest.mark.parametrize("name", CASES)
def test_in_float64(name: str) -> None:
    close(*by_convolution(conv_grad.conv_weight_grad, CASES[name], np.float64), np.float64)


@pytest.mark.parametrize(("name", "kind"), [*zip(HALVES, cycle(KINDS), strict=False), ("many pixels", "float16")])
def test_of_16_bits(name: str, kind: str) -> None:
    close(*by_convolution(conv_grad.conv_weight_grad, HALVES[name], np.float32, kinds=(kind, kind)), np.float32)


@pytest.mark.skipif(TARGET != "gpu", reason="large layers take a GPU")
@pytest.mark.parametrize("kind", [None, *KINDS])
@pytest.mark.parametrize("name", LARGE)
def test_large(name: str, kind: str | None) -> None:
    """Tensor cores cut off what they add up; over thousands of products that is more than rounding would be."""
    kernel = conv_grad.conv_weight_grad
    got, want = by_convolution(kernel, LARGE[name], np.float32, short=kind is None, kinds=(kind, kind))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * float(np.abs(want).max()))


@pytest.mark.parametrize("kinds", [(None, "bfloat16"), ("float16", None), ("float16", "bfloat16")])
def test_of_16_bits_and_others(kinds: Kinds) -> None:
    close(*by_convolution(conv_grad.conv_weight_grad, CASES["odd"], np.float32, kinds=kinds), np.float32)


@pytest.mark.parametrize(
    ("rows", "depth", "channels", "parts", "kind"),
    [(75, 8, 16, 2, "float16"), (5, 2, 6, 1, "bfloat16"), (3, 40, 12, 1, "bfloat16")],
)
def test_product_of_16_bits(rows: int, depth: int, channels: int, parts: int, kind: str) -> None:
    x, dy = (rounded(random((rows, n), np.float32, False), kind) for n in (depth, channels))
    packing = matrix(channels, depth, False, x.itemsize)
    call = Call(x, dy, np.zeros(0, np.int64), packing, parts, (kind, kind))
    shapes = (rows, depth, channels), (rows, parts, 0, 0)
    pointwise_grad.pointwise_weight_grad(call.x, call.dy, call.dw, call.partials, *shapes)
    close(call.gradient().reshape(depth, channels), x.T.astype(np.float64) @ dy, np.float32)


@pytest.mark.parametrize(
    ("channels", "kernel", "strides", "parts", "kinds"),
    [
        (8, (3, 3), [1, 1], 2, ("float16", "float16")),
        (6, (3, 3), [2, 2], 1, ("bfloat16", "bfloat16")),
        (4, (2, 1), [1, 1], 3, ("bfloat16", None)),
    ],
)
def test_depthwise_of_16_bits(
    channels: int, kernel: tuple[int, int], strides: list[int], parts: int, kinds: Kinds
) -> None:
    x = rounded(random((2, channels, 5, 6), np.float32, False), kinds[0])
    win = window((5, 6), kernel, strides, [1, 0, 1, 1], None)
    dy = rounded(random((2, channels, *win.out), np.float32, False), kinds[1])
    taps = [(*triple(move, 0), n) for move, n in window_taps(win.kernel, win.dilations, win.begins)]
    call = Call(x, dy, np.array(taps, np.int64), depthwise(channels, kernel, x.itemsize), parts, kinds)
    shapes = (*triple(win.size, 1), channels, 1, *triple(win.strides, 1)), (2, *triple(win.out, 1), channels)
    depthwise_weight_grad(call.x, call.dy, call.dw, call.taps, call.partials, *shapes, channels, kernel[1])
    w = np.zeros((channels, 1, *kernel))
    attrs = {"strides": strides, "pads": [1, 0, 1, 1], "group": channels}
    want = reference.conv_backward(*(a.astype(np.float64) for a in (dy, x)), w, **attrs)[1]
    close(call.gradient().reshape(w.shape), want, np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel", [pointwise_grad.pointwise_weight_grad, pointwise_grad.pointwise_weight_grad_fp32])
@pytest.mark.parametrize(("rows", "depth", "channels", "parts"), [(37, 8, 12, 2), (5, 3, 7, 1)])
def test_product(kernel: Any, rows: int, depth: int, channels: int, parts: int, dtype: Any) -> None:
    short = kernel is pointwise_grad.pointwise_weight_grad
    x, dy = random((rows, depth), dtype, short), random((rows, channels), dtype, short)
    call = Call(x, dy, np.zeros(0, np.int64), matrix(channels, depth, False, x.itemsize), parts)
    kernel(call.x, call.dy, call.dw, call.partials, (rows, depth, channels), (rows, parts, 0, 0))
    close(call.gradient().reshape(depth, channels), x.T.astype(np.float64) @ dy, dtype)


@pytest.mark.parametrize("size", [64, 128])
def test_lanes_meet_different_banks(size: int) -> None:
    """Eight lanes are served together, 16 bytes each: of four pixels, four rows or columns at two places."""
    pitch = size + grad_tensor.GAP
    for first in range(0, 32, 8):
        places = [lane % 4 * pitch + lane // 4 * 4 + k for lane in range(first, first + 8) for k in range(4)]
        assert len({place % 32 for place in places}) == 32


@pytest.mark.parametrize("size", [64, 128])
def test_lines_of_16_bits_lie_in_different_banks(size: int) -> None:
    """Eight lines of a square are read together, 16 bytes each."""
    pitch = size // 2 + grad_tensor.HALVES_GAP
    assert len({(line * pitch + k) % 32 for line in range(8) for k in range(4)}) == 32


@pytest.mark.parametrize("kernel", [3, 1])
def test_conv(kernel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole operator, with pixels in parts."""
    monkeypatch.setattr(nbcnn.ops.gather, "CUDA_PIXELS", 7)
    x, w = RNG.standard_normal((2, 5, 4, 3)), RNG.standard_normal((3, 5, kernel, kernel))
    attrs = {"pads": [kernel // 2] * 4}
    dy = RNG.standard_normal(reference.conv(x, w, None, **attrs).shape)
    case = Case("Conv", [x, w], attrs, weights=(1,), dtype=np.float64, device="cuda")
    _, (dw,) = case.run_training([dy], (1,))
    close(dw, reference.conv_backward(dy, x, w, **attrs)[1], np.float64)
