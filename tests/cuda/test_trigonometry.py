"""Trigonometric and hyperbolic functions on a GPU against NumPy, their gradients against PyTorch, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness import Case

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
RNG = np.random.default_rng(4)
NAMES = ["Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"]


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)])
@pytest.mark.parametrize("name", NAMES)
def test_forward_and_backward(name: str, dtype: Any, tolerance: float) -> None:
    x = RNG.uniform(-0.95, 0.95, (3, 31))
    x = x if name in ("Asin", "Acos", "Atanh") else abs(x) * 5 + 1.1 if name == "Acosh" else 4 * x
    x, dy = x.astype(dtype), RNG.standard_normal(x.shape).astype(dtype)
    tensor = torch.tensor(x.astype(np.float64), requires_grad=True)
    wanted = getattr(torch, name.lower())(tensor)
    wanted.backward(torch.tensor(dy.astype(np.float64)))
    assert tensor.grad is not None
    (y,), (dx,) = Case(name, [x], dtype=dtype, device="cuda").run_training([dy])
    np.testing.assert_allclose(y, wanted.detach().numpy(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_special_values(name: str) -> None:
    x = np.array([0, 1, -1, 2, -2, 1e-30, 1e5, -1e5, np.inf, -np.inf, np.nan], np.float32)
    function = getattr(np, name.lower().replace("a", "arc", 1) if name[0] == "A" else name.lower())
    (y,) = Case(name, [x], device="cuda").run()
    np.testing.assert_allclose(y, function(x.astype(np.float64)).astype(np.float32), rtol=1e-6)
