"""Convolutions on a GPU, and their gradients by the input, against the float64 oracle."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from harness import Case

# (input shape, weights' shape, attributes)
SHAPES = {
    "3x3": ((1, 3, 5, 4), (5, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    "strided": ((2, 9, 5, 5), (4, 9, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "dilated, uneven pads": ((1, 10, 6, 5), (3, 10, 3, 2), {"dilations": [2, 1], "pads": [2, 0, 1, 1]}),
    "groups": ((2, 8, 4, 4), (6, 4, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "pointwise": ((2, 5, 3, 3), (7, 5, 1, 1), {}),
    "pointwise, strided": ((1, 9, 4, 5), (3, 9, 1, 1), {"strides": [2, 3]}),
    "many channels": ((1, 17, 2, 2), (33, 17, 2, 2), {}),
    "one pixel": ((1, 20, 1, 1), (34, 20, 1, 1), {}),
    "1-D": ((2, 3, 9), (4, 3, 4), {"strides": [3], "pads": [2, 1]}),
    "3-D": ((1, 9, 3, 3, 3), (2, 9, 2, 2, 2), {"strides": [1, 2, 1], "pads": [1, 0, 0, 0, 1, 1]}),
    "taps that miss": ((1, 9, 1, 1), (2, 9, 3, 3), {"pads": [1, 1, 1, 1]}),
}


def tensor(seed: int, *shape: int, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("name", SHAPES)
def test_conv_and_its_gradients(name: str) -> None:
    shape, weights, attrs = SHAPES[name]
    x, w, bias = tensor(0, *shape), tensor(1, *weights), tensor(2, weights[0])
    y = reference.conv(x, w, bias, **attrs)
    dy = tensor(3, *y.shape)
    case = Case("Conv", [x, w, bias], attrs, weights=(1, 2), dtype=np.float64, device="cuda")
    (got,), (dx,) = case.run_training([dy], wanted=(0,))
    np.testing.assert_allclose(got, y, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(dx, reference.conv_backward(dy, x, w, **attrs)[0], rtol=1e-10, atol=1e-10)
