"""LRN on a GPU and its gradient against the float64 oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from harness import Case

CASES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((1, 1, 1, 1), {"size": 3}),
    ((2, 5, 3, 2), {"size": 5, "alpha": 2.0, "beta": 0.75, "bias": 1.5}),
    ((1, 17, 5), {"size": 4, "alpha": 3.0, "beta": 0.6, "bias": 2.0}),
    ((1, 40, 2), {"size": 61, "alpha": 4.0}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "attrs"), CASES)
def test_lrn(shape: tuple[int, ...], attrs: dict[str, Any], dtype: Any) -> None:
    x, dy = np.random.default_rng(1).standard_normal((2, *shape)).astype(dtype)
    (y,), (dx,) = Case("LRN", [x], attrs, opset=13, dtype=dtype, device="cuda").run_training([dy])
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(y, reference.lrn(x, **attrs), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dx, reference.lrn_backward(dy, x, **attrs), rtol=tolerance, atol=tolerance)
