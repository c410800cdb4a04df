"""LRN and its gradient against the float64 oracle, also between guard bands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from guards import run_guarded
from harness import Case, to_onnx_order

from nbcnn.errors import ModelError

CASES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((1, 1, 1, 1), {"size": 3}),
    ((2, 5, 3, 4), {"size": 5, "alpha": 2.0, "beta": 0.75, "bias": 1.5}),
    ((1, 17, 9, 11), {"size": 4, "alpha": 3.0, "beta": 0.6, "bias": 2.0}),
    ((3, 33, 2, 3), {"size": 1, "alpha": 1.0, "beta": 1.0}),
    ((1, 3, 20), {"size": 9, "alpha": 4.0}),
    ((2, 4, 2, 3, 2), {"size": 2, "alpha": 1.0, "beta": 0.5}),
]


@pytest.mark.parametrize("opset", [7, 13])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "attrs"), CASES)
def test_lrn(shape: tuple[int, ...], attrs: dict[str, Any], dtype: Any, opset: int) -> None:
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    plan = Case("LRN", [x], attrs, opset=opset, dtype=dtype).training_plan([dy])
    found = [to_onnx_order(run_guarded(plan)[v.name], v.layout) for v in plan.graph.outputs]
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(found[0], reference.lrn(x, **attrs), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found[1], reference.lrn_backward(dy, x, **attrs), rtol=tolerance, atol=tolerance)


def test_inference() -> None:
    x = np.random.default_rng(2).standard_normal((2, 7, 30, 5)).astype(np.float32)
    (y,) = Case("LRN", [x], {"size": 5, "alpha": 1.0}).run()
    np.testing.assert_allclose(y, reference.lrn(x, size=5, alpha=1.0), rtol=2e-5)


def test_size_is_needed() -> None:
    with pytest.raises(ModelError, match=r"LRN 'node': size"):
        Case("LRN", [np.zeros((1, 2, 3), np.float32)]).run()
