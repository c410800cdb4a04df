"""ConvTranspose of few output channels on a GPU: windows that are added up, and a padded copy of the picture in its
gradients. The oracle is the gradient of a convolution by its input.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from harness import Case

from nbcnn.geometry import transposed_window
from nbcnn.kernels.cuda import overlap, pad, runtime
from nbcnn.ops.gather import triple

RNG = np.random.default_rng(7)
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}

# name -> x shape, w shape, attributes
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "doubles": ((2, 9, 3, 2), (9, 3, 2, 2), {"strides": [2, 2]}),
    "overlapping": ((1, 9, 3, 4), (9, 3, 5, 5), {"strides": [2, 2], "pads": [2, 2, 2, 2]}),
    "one channel out": ((2, 9, 2, 3), (9, 1, 4, 4), {"strides": [3, 3], "pads": [1, 1, 2, 1]}),
    "dilated": ((1, 7, 4, 3), (7, 2, 3, 3), {"dilations": [2, 3], "pads": [3, 1, 3, 1]}),
    "1-D": ((2, 5, 7), (5, 4, 6), {"strides": [4], "pads": [1, 1]}),
    "3-D": ((1, 5, 3, 2, 2), (5, 3, 3, 2, 3), {"strides": [2, 1, 4], "pads": [1, 0, 1, 1, 0, 1]}),
}


def size(name: str) -> tuple[int, ...]:
    """Spatial sizes of the output."""
    x, w, attrs = CASES[name]
    return transposed_window(x[2:], w[2:], attrs.get("strides"), attrs.get("pads"), attrs.get("dilations")).size


@pytest.mark.parametrize(("name", "dtype"), [*((name, np.float64) for name in CASES), ("overlapping", np.float32)])
def test_conv_transpose(name: str, dtype: Any) -> None:
    shape, weights, attrs = CASES[name]
    x, w, bias = (RNG.standard_normal(s).astype(dtype) for s in (shape, weights, weights[1:2]))
    blank = np.zeros((shape[0], weights[1], *size(name)))
    want = reference.conv_backward(x, blank, w, **attrs)[0] + bias.reshape(-1, *(1,) * (len(shape) - 2))
    dy = RNG.standard_normal(want.shape).astype(dtype)
    case = Case("ConvTranspose", [x, w, bias], attrs, weights=(1, 2), dtype=dtype, device="cuda")
    (y,), (dx, dw) = case.run_training([dy], (0, 1))
    dw_want = reference.conv_backward(x, dy, w, **attrs)[1]
    for got, expected in ((y, want), (dx, reference.conv(dy, w, None, **attrs)), (dw, dw_want)):
        assert got.shape == expected.shape
        tolerance = TOLERANCE[dtype] * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_windows_are_added_to_the_residual_and_clamped(name: str) -> None:
    """In place, as the fuse pass has it; NaN stays NaN."""
    shape, weights, attrs = CASES[name]
    win = transposed_window(shape[2:], weights[2:], attrs.get("strides"), attrs.get("pads"), attrs.get("dilations"))
    x, w = RNG.standard_normal(shape), RNG.standard_normal(weights)
    x[(0,) * len(shape)] = np.nan
    bias, residual = RNG.standard_normal(weights[1]), RNG.standard_normal((shape[0], *win.size, weights[1]))
    columns = np.moveaxis(x, 1, -1).reshape(-1, shape[1]) @ w.reshape(shape[1], -1)
    blank = np.zeros((shape[0], weights[1], *win.size))
    with np.errstate(invalid="ignore"):
        whole = np.moveaxis(reference.conv_backward(x, blank, w, **attrs)[0], 1, -1) + bias + residual
        want = np.clip(whole, -0.5, 1)
    arrays = [runtime.upload(np.ascontiguousarray(a).reshape(-1)) for a in (columns, bias, residual)]
    steps = (*triple(win.kernel, 1), *triple(win.strides, 1), *triple(win.dilations, 1), *triple(win.begins, 0))
    numbers = weights[1], shape[0], triple(win.out, 1), triple(win.size, 1), steps
    overlap.overlap_add(*arrays, arrays[2], *numbers, np.float64(-0.5), np.float64(1))
    found = runtime.download(arrays[2]).reshape(want.shape)
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("planes", [0, 1])
def test_padding(planes: int) -> None:
    x = RNG.standard_normal((2, 3, 2, 4, 5)).astype(np.float32)  # n, c, d, h, w
    want = np.moveaxis(np.pad(x, [(0, 0), (0, 0), (1, 0), (2, 1), (0, 3)]), 1, -1)
    given = x if planes else np.ascontiguousarray(np.moveaxis(x, 1, -1))
    source, target = runtime.upload(given.reshape(-1)), runtime.upload(np.full(want.size, np.nan, np.float32))
    pad.pad_channels_last(source, target, (2, 2, 4, 5, 3), (1, 2, 0), want.shape[1:4], planes)
    np.testing.assert_array_equal(runtime.download(target).reshape(want.shape), want)
