"""Trigonometric and hyperbolic functions against NumPy, their gradients against PyTorch, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness import Case

RNG = np.random.default_rng(0)
NAMES = ["Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"]


def domain(name: str, shape: tuple[int, ...]) -> np.ndarray:
    x = RNG.uniform(-0.95, 0.95, shape)
    return x if name in ("Asin", "Acos", "Atanh") else abs(x) * 5 + 1.1 if name == "Acosh" else 4 * x


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize("shape", [(1,), (2, 33, 7, 5)])
@pytest.mark.parametrize("name", NAMES)
def test_forward_and_backward(name: str, shape: tuple[int, ...], dtype: Any, tolerance: float) -> None:
    x, dy = domain(name, shape).astype(dtype), RNG.standard_normal(shape).astype(dtype)
    tensor = torch.tensor(x.astype(np.float64), requires_grad=True)
    wanted = getattr(torch, name.lower())(tensor)
    wanted.backward(torch.tensor(dy.astype(np.float64)))
    assert tensor.grad is not None
    case = Case(name, [x], dtype=dtype)
    near = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(case.run()[0], wanted.detach().numpy(), **near)
    (y,), (dx,) = case.run_training([dy])
    np.testing.assert_allclose(y, wanted.detach().numpy(), **near)
    np.testing.assert_allclose(dx, tensor.grad.numpy(), **near)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_special_values(name: str, dtype: Any) -> None:
    x = np.array([0, 1, -1, 2, -2, 1e-30, 1e5, -1e5, np.inf, -np.inf, np.nan], dtype)
    with np.errstate(all="ignore"):
        wanted = getattr(np, name.lower().replace("a", "arc", 1) if name[0] == "A" else name.lower())(
            x.astype(np.float64)
        ).astype(dtype)
    np.testing.assert_allclose(Case(name, [x], dtype=dtype).run()[0], wanted, rtol=1e-6)
