"""Depthwise convolution on a GPU and its gradients: every form of a row of taps, whole quads of channels and not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from harness import Case

import nbcnn.ops.depthwise

RNG = np.random.default_rng(5)
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}

# name -> x shape, w shape, attributes
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "3x3": ((2, 5, 5, 4), (5, 1, 3, 3), {"pads": [1, 1, 1, 1]}),
    "quads": ((2, 8, 4, 6), (8, 1, 3, 3), {"pads": [1, 1, 1, 1]}),
    "quads, strided": ((1, 4, 7, 9), (4, 1, 3, 3), {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
    "more channels than a panel": ((1, 36, 2, 2), (36, 1, 3, 3), {"pads": [1, 1, 1, 1]}),
    "5x5": ((1, 4, 4, 5), (4, 1, 5, 5), {"pads": [2, 2, 2, 2]}),
    "5x5, strided": ((1, 4, 5, 9), (4, 1, 5, 5), {"strides": [2, 2], "pads": [2, 1, 2, 1]}),
    "7x7": ((1, 4, 3, 6), (4, 1, 7, 7), {"pads": [3, 3, 3, 3]}),
    "more taps than a table": ((1, 4, 9), (4, 1, 65), {"pads": [30, 31]}),
    "dilated": ((1, 3, 6, 6), (3, 1, 3, 3), {"dilations": [2, 1], "pads": [1, 0, 1, 0]}),
    "dilated along a line": ((1, 4, 4, 7), (4, 1, 2, 3), {"dilations": [1, 2]}),
    "two strides": ((1, 4, 5, 5), (4, 1, 3, 3), {"strides": [1, 2], "pads": [1, 1, 1, 1]}),
    "stride over kernel": ((1, 3, 5, 5), (3, 1, 1, 1), {"strides": [2, 2]}),
    "pads beyond the picture": ((1, 4, 1, 2), (4, 1, 3, 3), {"pads": [3, 3, 3, 3]}),
    "1-D": ((2, 5, 9), (5, 1, 4), {"pads": [1, 2], "strides": [3]}),
    "3-D": ((1, 4, 3, 2, 4), (4, 1, 3, 2, 3), {"pads": [1, 0, 1, 1, 1, 1]}),
}


@pytest.mark.parametrize(
    ("name", "dtype", "few_pixels"),
    [
        *((name, np.float64, False) for name in CASES),
        ("3x3", np.float32, True),
        ("quads", np.float32, True),
        ("5x5, strided", np.float32, True),
        ("1-D", np.float32, False),
    ],
)
def test_depthwise(name: str, dtype: Any, few_pixels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """few_pixels: the gradient by the weights is summed in parts of the pixels."""
    if few_pixels:
        monkeypatch.setattr(nbcnn.ops.depthwise, "CUDA_PIXELS", 5)
    shape, weights, attrs = CASES[name]
    attrs = attrs | {"group": shape[1]}
    x, w, bias = (RNG.standard_normal(s).astype(dtype) for s in (shape, weights, weights[:1]))
    want = reference.conv(x, w, bias, **attrs)
    dy = RNG.standard_normal(want.shape).astype(dtype)
    case = Case("Conv", [x, w, bias], attrs, weights=(1, 2), dtype=dtype, device="cuda")
    (y,), grads = case.run_training([dy], (0, 1))
    for got, expected in zip([y, *grads], [want, *reference.conv_backward(dy, x, w, **attrs)[:2]], strict=True):
        assert got.shape == expected.shape
        tolerance = TOLERANCE[dtype] * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)
