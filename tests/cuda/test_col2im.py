"""Col2Im and its gradient on a GPU, against onnx's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import Case
from onnx import helper
from onnx.reference import ReferenceEvaluator

RNG = np.random.default_rng(14)

# name -> columns' shape, image, block, attributes
CASES: dict[str, tuple[tuple[int, ...], list[int], list[int], dict[str, Any]]] = {
    "plain": ((2, 12, 20), [5, 6], [2, 2], {}),
    "all": ((1, 18, 12), [6, 9], [3, 2], {"strides": [2, 3], "pads": [2, 1, 2, 1], "dilations": [1, 2]}),
    "pads beyond a block": ((1, 4, 36), [2, 2], [2, 2], {"pads": [2, 2, 3, 3]}),
    "1-D": ((2, 6, 4), [9], [3], {"strides": [2]}),
    "3-D": ((1, 24, 18), [3, 2, 4], [2, 1, 3], {"pads": [0, 0, 1, 0, 1, 0]}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_col2im(name: str, dtype: Any) -> None:
    shape, image, block, attrs = CASES[name]
    x = RNG.standard_normal(shape).astype(dtype)
    node = helper.make_node("Col2Im", ["x", "i", "b"], ["y"], **attrs)
    oracle = ReferenceEvaluator(node)
    sizes = {"i": np.array(image), "b": np.array(block)}
    want = oracle.run(None, {"x": x.astype(np.float64), **sizes})[0]
    dy = RNG.standard_normal(want.shape).astype(dtype)
    case = Case("Col2Im", [x, *sizes.values()], attrs, weights=(1, 2), opset=18, dtype=dtype, device="cuda")
    (y,), (dx,) = case.run_training([dy])
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-6 if dtype is np.float32 else 1e-13)
    np.testing.assert_array_equal(dx, transposed(oracle, sizes, shape, dy))


def transposed(oracle: Any, sizes: dict[str, np.ndarray], shape: tuple[int, ...], dy: np.ndarray) -> np.ndarray:
    """The gradient of a linear map that only adds: where each element goes, dy comes from."""
    numbers = np.arange(1.0, dy[0].size + 1).reshape(dy.shape[1:])
    dx = np.zeros(shape, dy.dtype)
    for place in np.ndindex(shape[1:]):
        unit = np.zeros((1, *shape[1:]))
        unit[(0, *place)] = 1
        at = int((oracle.run(None, {"x": unit, **sizes})[0][0] * numbers).sum())
        if at:
            dx[(slice(None), *place)] = dy.reshape(len(dy), -1)[:, at - 1]
    return dx
