"""Losses that are operators: values against the formula in float64, gradients against finite differences of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from channels_last import ChannelsLast
from gradcheck import directional
from guards import run_guarded
from harness import Case, to_onnx_order

from nbcnn.errors import ModelError

SHAPES = [(4, 3), (2, 17, 5), (2, 5, 3, 4), (1, 3, 90, 60), (2, 3, 2, 2, 3)]


def likelihood_loss(x: Any, labels: Any, weights: Any, reduction: str, ignore: int | None) -> Any:
    """The definition of ONNX NegativeLogLikelihoodLoss-22."""
    x = np.moveaxis(np.asarray(x, np.float64), 1, -1)
    counted = np.ones(labels.shape, bool) if ignore is None else labels != ignore
    safe = np.where(counted, labels, 0)
    weight = np.where(counted, 1.0 if weights is None else np.asarray(weights, np.float64)[safe], 0.0)
    each = -weight * np.take_along_axis(x, safe[..., None], -1)[..., 0]
    if reduction == "none":
        return each
    return each.sum() / (weight.sum() if reduction == "mean" else 1.0)


@pytest.mark.parametrize(("kind", "dtype"), [(Case, np.float32), (Case, np.float64), (ChannelsLast, np.float64)])
@pytest.mark.parametrize(
    ("reduction", "weighted", "ignore", "integer"),
    [
        ("none", True, None, np.int64),
        ("sum", False, 1, np.int64),
        ("mean", True, 2, np.int32),
        ("mean", True, -7, np.int64),
    ],
)
@pytest.mark.parametrize("op", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_the_formula(
    shape: tuple[int, ...],
    op: str,
    reduction: str,
    weighted: bool,
    ignore: int | None,
    integer: Any,
    kind: type[Case],
    dtype: Any,
) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape).astype(dtype)
    labels = rng.integers(0, shape[1], (shape[0], *shape[2:])).astype(integer)
    if ignore is not None:
        labels.reshape(-1)[::3] = ignore
    weights = rng.random(shape[1]).astype(dtype) + 1 if weighted else None
    attrs = {"reduction": reduction} | ({} if ignore is None else {"ignore_index": ignore})
    case = kind(op, [x, labels, weights], attrs, weights=(2,), opset=13, dtype=dtype)

    def value(x: np.ndarray) -> Any:
        scores = reference.log_softmax(x, axis=1) if op.startswith("Softmax") else x
        return likelihood_loss(scores, labels, weights, reduction, ignore)

    tolerance = 2e-5 if dtype == np.float32 else 1e-11
    wanted = value(x)
    dy = rng.standard_normal(np.shape(wanted)).astype(dtype)
    plan = case.training_plan([dy])
    found = run_guarded(plan)
    y, dx = (to_onnx_order(found[v.name], v.layout) for v in plan.graph.outputs)
    assert y.shape == np.shape(wanted)
    np.testing.assert_allclose(y, wanted, rtol=tolerance, atol=tolerance)
    if dtype == np.float64:
        directional(lambda x: float((value(x) * dy).sum()), [x], [dx], rng)


def test_logarithms_of_probabilities() -> None:
    """The second output of SoftmaxCrossEntropyLoss, and a gradient that comes through both."""
    rng = np.random.default_rng(2)
    x, labels = rng.standard_normal((2, 5, 3)), rng.integers(0, 5, (2, 3))
    case = Case("SoftmaxCrossEntropyLoss", [x, labels], outputs=2, dtype=np.float64)
    dys = [np.array(1.5), rng.standard_normal(x.shape)]
    (loss, scores), (dx,) = case.run_training(dys)
    wanted = reference.log_softmax(x, axis=1)
    np.testing.assert_allclose(scores, wanted, rtol=1e-12)
    np.testing.assert_allclose(loss, likelihood_loss(wanted, labels, None, "mean", None), rtol=1e-12)

    def value(x: np.ndarray) -> float:
        scores = reference.log_softmax(x, axis=1)
        return float(1.5 * likelihood_loss(scores, labels, None, "mean", None) + (scores * dys[1]).sum())

    directional(value, [x], [dx], rng)


def test_a_label_of_no_class_makes_the_loss_nan() -> None:
    x, labels = np.zeros((2, 3), np.float32), np.array([1, 3])
    (loss,) = Case("SoftmaxCrossEntropyLoss", [x, labels]).run()
    assert np.isnan(loss)


@pytest.mark.parametrize(
    ("labels", "attrs", "message"),
    [
        (np.zeros((3,), np.int64), {}, "do not fit"),
        (np.zeros((2,), np.float32), {}, "must be integers"),
        (np.zeros((2,), np.int64), {"reduction": "max"}, "'max' is none of none, sum, mean"),
    ],
)
def test_what_is_refused(labels: np.ndarray, attrs: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Case("NegativeLogLikelihoodLoss", [np.zeros((2, 3), np.float32), labels], attrs).run()
