"""Reductions on a GPU and their gradients: sums, means and maxima against the oracle, others against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
from harness import Case

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
NAMES = {"ReduceSum": "reduce_sum", "ReduceMean": "reduce_mean", "ReduceMax": "reduce_max"}


def near(dtype: Any) -> dict[str, Any]:
    return {"rtol": TOLERANCE[dtype], "atol": 10 * TOLERANCE[dtype]}


@pytest.mark.parametrize(
    ("op", "shape", "axes", "dtype"),
    [
        ("ReduceSum", (2, 5, 3, 4), (0, 2), np.float64),
        ("ReduceSum", (1, 1100), (1,), np.float32),
        ("ReduceSum", (2, 130, 3), (0, 1), np.float32),
        ("ReduceMean", (2, 5, 3, 4), (2, 3), np.float64),
        ("ReduceMean", (3, 1, 17), (2,), np.float32),
        ("ReduceMax", (2, 5, 3, 4), (1,), np.float64),
        ("ReduceMax", (2, 33, 2), (0, 2), np.float32),
        ("ReduceMax", (7,), (0,), np.float32),
    ],
)
def test_against_the_oracle(op: str, shape: tuple[int, ...], axes: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal(shape).astype(dtype)
    forward, backward = getattr(reference, NAMES[op]), getattr(reference, f"{NAMES[op]}_backward")
    y = forward(x, axes, 0)
    dy = rng.standard_normal(y.shape).astype(dtype)
    case = Case(op, [x], {"axes": list(axes), "keepdims": 0}, opset=11, dtype=dtype, device="cuda")
    (found,), (dx,) = case.run_training([dy])
    np.testing.assert_allclose(found, y, **near(dtype))
    np.testing.assert_allclose(dx, backward(dy, x, axes, 0), **near(dtype))


MAPPED: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "ReduceL1": (lambda x: np.abs(x).sum(1), lambda x, dy: np.sign(x) * dy[:, None]),
    "ReduceSumSquare": (lambda x: (x * x).sum(1), lambda x, dy: 2 * x * dy[:, None]),
    "ReduceProd": (lambda x: x.prod(1), lambda x, dy: (x.prod(1) * dy)[:, None] / x),
    "ReduceLogSumExp": (
        lambda x: np.log(np.exp(x).sum(1)),
        lambda x, dy: np.exp(x) / np.exp(x).sum(1, keepdims=True) * dy[:, None],
    ),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", list(MAPPED))
def test_mapped(op: str, dtype: Any) -> None:
    rng = np.random.default_rng(4)
    x = (rng.uniform(0.5, 1.5, (3, 35, 2)) * rng.choice([-1, 1], (3, 35, 2))).astype(dtype)
    dy = rng.standard_normal((3, 2)).astype(dtype)
    forward, backward = MAPPED[op]
    case = Case(op, [x], {"axes": [1], "keepdims": 0}, opset=13, dtype=dtype, device="cuda")
    (y,), (dx,) = case.run_training([dy])
    wide = x.astype(np.float64)
    np.testing.assert_allclose(y, forward(wide), **near(dtype))
    np.testing.assert_allclose(dx, backward(wide, dy), **near(dtype))


def test_products_with_zeros_have_gradients() -> None:
    x = np.array([[2.0, 0.0, 3.0], [0.0, 4.0, 0.0], [1.0, 2.0, 3.0]])
    case = Case("ReduceProd", [x], {"axes": [1]}, opset=13, dtype=np.float64, device="cuda")
    _, (dx,) = case.run_training([np.ones((3, 1))])
    np.testing.assert_array_equal(dx, [[0, 6, 0], [0, 0, 0], [6, 3, 2]])


def test_ties_go_to_the_first_in_onnx_order() -> None:
    x = np.array([[[1.0, 5.0], [5.0, 5.0]], [[2.0, 2.0], [1.0, 2.0]]])
    case = Case("ReduceMax", [x], {"axes": [1, 2], "keepdims": 0}, opset=13, dtype=np.float64, device="cuda")
    _, (dx,) = case.run_training([np.array([3.0, 4.0])])
    np.testing.assert_array_equal(dx, [[[0, 3], [0, 0]], [[4, 0], [0, 0]]])


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin", "ReduceSum"])
def test_nan_stays(op: str) -> None:
    x = np.zeros((2, 40), np.float32)
    x[0, 33] = np.nan
    (y,) = Case(op, [x], {"axes": [1], "keepdims": 0}, opset=11, device="cuda").run()
    np.testing.assert_array_equal(y, [np.nan, 0])


def test_blocks_are_those_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Powers of two that make up a block, of which CUDA allows 64 along z."""
    from nbcnn.kernels.cuda import block

    monkeypatch.setattr(block, "BLOCK", 256)
    monkeypatch.setattr(block, "WIDEST", 32)
    for columns in (1, 2, 3, 5, 33, 1000):
        for count in (1, 2, 4, 5, 100, 100000):
            x, y, z = block.threads_for(columns, count)
            assert x * y * z == 256 and x <= 32 and z <= 64 and not x & (x - 1) and not y & (y - 1)
