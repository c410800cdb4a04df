"""How far each algorithm of convolution may be from the sum of products in float64.

Errors are the largest of a result, over its standard deviation. Measured over five seeds, with 256 input channels and
3x3 taps (2304 products a result): direct 3.9e-6, F(2,3) 2.8e-6, F(4,3) 1.45e-5. The usual points 0, 1, -1, 2, -2 would
give F(4,3) 2.9e-5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from harness import Case, Forced

# algorithm: x shape, w shape, attributes, bounds of the output, of the gradients by input and weights
ALGORITHMS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], tuple[float, float, float]]] = {
    "implicit-gemm": ((1, 256, 20, 20), (64, 256, 3, 3), {"pads": [1, 1, 1, 1]}, (5e-6, 6e-6, 3e-6)),
    "winograd2": ((1, 256, 20, 20), (64, 256, 3, 3), {"pads": [1, 1, 1, 1]}, (4e-6, 4e-6, 4e-6)),
    "winograd4": ((1, 256, 20, 20), (64, 256, 3, 3), {"pads": [1, 1, 1, 1]}, (2e-5, 1.5e-5, 1e-5)),
    "pointwise": ((1, 256, 20, 20), (64, 256, 1, 1), {}, (3e-6, 3e-6, 3e-6)),
    "grouped": ((1, 256, 20, 20), (64, 64, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}, (4e-6, 4e-6, 3e-6)),
    "depthwise": ((1, 256, 20, 20), (256, 1, 3, 3), {"group": 256, "pads": [1, 1, 1, 1]}, (2e-6, 2e-6, 3e-6)),
    "few-channel": ((1, 3, 40, 40), (64, 3, 7, 7), {"strides": [2, 2], "pads": [3, 3, 3, 3]}, (3e-6, 8e-6, 3e-6)),
    "few-channel planes": ((1, 3, 40, 40), (6, 3, 5, 5), {}, (2e-6, 4e-6, 4e-6)),
    "batch-lanes": ((64, 6, 14, 14), (10, 6, 5, 5), {}, (3e-6, 4e-6, 8e-6)),
}


def _error(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want).max() / want.std())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_errors_stay_within_their_bounds(name: str) -> None:
    x_shape, w_shape, attrs, bounds = ALGORITHMS[name]
    rng = np.random.default_rng(0)
    x = rng.standard_normal(x_shape).astype(np.float32)
    w = (rng.standard_normal(w_shape) / np.prod(w_shape[1:]) ** 0.5).astype(np.float32)
    case = Case("Conv", [x, w], attrs, (1,), choose=Forced(name))
    plan = case.plan()
    assert name in [node.attrs.get("algorithm") for node in plan.nodes]
    want = reference.conv(x, w, None, **attrs)
    assert _error(case.execute(plan)[0], want) < bounds[0]
    dy = rng.standard_normal(want.shape).astype(np.float32)
    _, found = case.run_training([dy], (0, 1))
    for got, expected, bound in zip(found, reference.conv_backward(dy, x, w, **attrs), bounds[1:], strict=False):
        assert _error(got, expected) < bound


@pytest.mark.parametrize(("name", "times"), [("winograd2", 1.0), ("winograd4", 5.0)])
def test_errors_are_few_times_those_of_the_direct_sum(name: str, times: float) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((1, 256, 20, 20)).astype(np.float32)
    w = (rng.standard_normal((64, 256, 3, 3)) / 48).astype(np.float32)
    want = reference.conv(x, w, None, pads=[1, 1, 1, 1])
    errors = [
        _error(Case("Conv", [x, w], {"pads": [1, 1, 1, 1]}, (1,), choose=Forced(which)).run()[0], want)
        for which in (name, "implicit-gemm")
    ]
    assert errors[0] <= times * errors[1]
