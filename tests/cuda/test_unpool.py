"""MaxUnpool and its gradient on a GPU, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import Case

RNG = np.random.default_rng(15)
ATTRS = {"kernel_shape": [2, 2], "strides": [2, 2]}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("target", [None, (2, 3, 5, 8)])
def test_unpool(target: tuple[int, ...] | None, dtype: Any) -> None:
    """Indices, which here often are the same, count the elements of the output that the attributes imply."""
    x, indices = RNG.standard_normal((2, 3, 2, 3)).astype(dtype), RNG.integers(0, 2 * 3 * 24, (2, 3, 2, 3))
    want = np.zeros(2 * 3 * 24, dtype)
    for index, value in zip(indices.reshape(-1), x.reshape(-1), strict=True):
        want[index] = value
    want = want.reshape(2, 3, 4, 6)
    given = [x, indices]
    if target:
        want = np.pad(want, [(0, b - a) for a, b in zip(want.shape, target, strict=True)])
        given.append(np.array(target))
    dy = RNG.standard_normal(want.shape).astype(dtype)
    case = Case("MaxUnpool", given, ATTRS, weights=(2,), opset=11, dtype=dtype, device="cuda")
    (y,), (dx,) = case.run_training([dy])
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(dx, dy[:, :, :4, :6].reshape(-1)[indices])


def test_indices_out_of_range_write_nothing() -> None:
    x = np.ones((1, 1, 1, 2), np.float32)
    case = Case("MaxUnpool", [x, np.array([[[[3, 99]]]])], ATTRS, opset=11, device="cuda")
    (y,), (dx,) = case.run_training([np.full((1, 1, 2, 4), 5, np.float32)])
    np.testing.assert_array_equal(y.reshape(-1), [0, 0, 0, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(dx.reshape(-1), [5, np.nan])
