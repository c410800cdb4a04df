"""Losses that are operators, on a GPU: values and gradients against the formula of ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from harness import Case


def expected(
    x: np.ndarray, labels: np.ndarray, weights: Any, reduction: str, ignore: int | None, dy: Any
) -> tuple[Any, np.ndarray]:
    """Value and gradient of the negative log-likelihood (ONNX NegativeLogLikelihoodLoss-22) of scores (N, C, d)."""
    rows = np.moveaxis(x.astype(np.float64), 1, -1)
    weight = np.ones(labels.shape) if weights is None else weights.astype(np.float64)[labels]
    weight = np.where(labels == ignore, 0.0, weight)
    picked = np.eye(x.shape[1])[labels]
    each = -weight * (rows * picked).sum(-1)
    share = weight.sum() if reduction == "mean" else 1.0
    value = each if reduction == "none" else each.sum() / share
    dx = -(weight * dy / share)[..., None] * picked
    return value, np.moveaxis(dx, -1, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("reduction", "weighted", "ignore", "integer"),
    [("none", True, None, np.int64), ("sum", False, 1, np.int64), ("mean", True, 2, np.int32)],
)
@pytest.mark.parametrize("shape", [(9, 5), (2, 3, 20)])
def test_against_the_formula(
    shape: tuple[int, ...], reduction: str, weighted: bool, ignore: int | None, integer: Any, dtype: Any
) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape).astype(dtype)
    labels = rng.integers(0, shape[1], (shape[0], *shape[2:])).astype(integer)
    weights = rng.random(shape[1]).astype(dtype) + dtype(1) if weighted else None
    attrs = {"reduction": reduction} | ({} if ignore is None else {"ignore_index": ignore})
    inputs = [x, labels, weights]
    case = Case("NegativeLogLikelihoodLoss", inputs, attrs, (2,), opset=13, dtype=dtype, device="cuda")
    dy = rng.standard_normal(labels.shape if reduction == "none" else ()).astype(dtype)
    (y,), (dx,) = case.run_training([dy])
    value, gradient = expected(x, labels, weights, reduction, ignore, dy)
    tolerance = 2e-5 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(y, value, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dx, gradient, rtol=tolerance, atol=tolerance)


def test_of_scores() -> None:
    rng = np.random.default_rng(2)
    x, labels = rng.standard_normal((4, 7)), rng.integers(0, 7, 4)
    case = Case("SoftmaxCrossEntropyLoss", [x, labels], opset=13, dtype=np.float64, device="cuda")
    (loss,), (dx,) = case.run_training([np.array(1.0)])
    np.testing.assert_allclose(loss, -reference.log_softmax(x, 1)[np.arange(4), labels].mean(), rtol=1e-12)
    np.testing.assert_allclose(dx, (reference.softmax(x, 1) - np.eye(7)[labels]) / 4, rtol=1e-11, atol=1e-13)


def test_a_label_of_no_class_makes_the_loss_nan() -> None:
    x, labels = np.zeros((2, 3), np.float32), np.array([1, 3])
    (loss,) = Case("SoftmaxCrossEntropyLoss", [x, labels], device="cuda").run()
    assert np.isnan(loss)
