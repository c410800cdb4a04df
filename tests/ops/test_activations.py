"""Activations of several steps, against PyTorch in float64 and onnx's reference; their gradients against PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import inf, nan
from typing import Any

import numpy as np
import pytest
import torch
from harness import Case
from onnx import helper
from onnx.reference import ReferenceEvaluator
from torch.nn import functional

from nbcnn.errors import ModelError
from nbcnn.graph import Node
from nbcnn.lower import lower_for_inference

RNG = np.random.default_rng(0)
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-14}
Torch = Callable[[torch.Tensor], torch.Tensor]


def celu(alpha: float) -> Torch:
    """PyTorch's own takes the inverse of alpha in float32."""
    return lambda x: torch.where(x > 0, x, alpha * torch.expm1(x / alpha))


def shrink(x: torch.Tensor) -> torch.Tensor:
    """By ONNX's definition; PyTorch's Softshrink is the one where bias = lambd."""
    return torch.where(x < -0.75, x + 0.25, torch.where(x > 0.75, x - 0.25, torch.zeros_like(x)))


CASES: list[tuple[str, dict[str, Any], int, Torch]] = [
    ("Celu", {}, 12, functional.celu),
    ("Celu", {"alpha": 0.3}, 12, celu(0.3)),
    ("Celu", {"alpha": 2.5}, 12, celu(2.5)),
    ("Gelu", {}, 20, functional.gelu),
    ("Gelu", {"approximate": "tanh"}, 20, lambda x: functional.gelu(x, approximate="tanh")),
    ("Mish", {}, 18, functional.mish),
    ("Reciprocal", {}, 13, torch.reciprocal),
    ("Shrink", {"lambd": 0.5, "bias": 0.5}, 9, functional.softshrink),
    ("Shrink", {"lambd": 0.8}, 9, lambda x: functional.hardshrink(x, 0.8)),
    ("Shrink", {"lambd": 0.75, "bias": 0.25}, 9, shrink),
    ("Swish", {}, 24, functional.silu),
    ("Swish", {"alpha": 1.702}, 24, lambda x: x * torch.sigmoid(1.702 * x)),
    ("ThresholdedRelu", {}, 10, lambda x: functional.threshold(x, 1.0, 0.0)),
    ("ThresholdedRelu", {"alpha": -0.5}, 10, lambda x: functional.threshold(x, -0.5, 0.0)),
]
SHAPES = [(1,), (3, 5, 1, 17), (2, 33, 70, 3)]


def of_torch(function: Torch, x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The function, and dy times its derivative, in float64."""
    tensor = torch.tensor(x.astype(np.float64), requires_grad=True)
    y = function(tensor)
    y.backward(torch.tensor(dy.astype(np.float64)))
    assert tensor.grad is not None
    return y.detach().numpy(), tensor.grad.numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("op", "attrs", "opset", "function"), CASES)
def test_forward_and_backward(
    op: str, attrs: dict[str, Any], opset: int, function: Torch, shape: tuple[int, ...], dtype: Any
) -> None:
    x = (RNG.standard_normal(shape) * 3).astype(dtype)
    dy = RNG.standard_normal(shape).astype(dtype)
    near: dict[str, Any] = {"rtol": 2 * TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    case = Case(op, [x], attrs, dtype=dtype, opset=opset)
    wanted, slope = of_torch(function, x, dy)
    np.testing.assert_allclose(case.run()[0], wanted, **near)
    (y,), (dx,) = case.run_training([dy])
    np.testing.assert_allclose(y, wanted, **near)
    np.testing.assert_allclose(dx, slope, **near)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("op", "attrs", "opset", "function"), CASES)
def test_as_onnx_defines_it(op: str, attrs: dict[str, Any], opset: int, function: Torch, dtype: Any) -> None:
    """Bounds, zeros, infinities and NaN included."""
    x = np.array([0, 1, -1, 0.5, -0.5, 0.75, -0.75, 0.8, -0.8, 30, -30, 1e-30, inf, -inf, nan], dtype)
    proto = helper.make_node(op, ["x"], ["y"], **attrs)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ends = [helper.make_tensor_value_info(name, kind, x.shape) for name in "xy"]
    graph = helper.make_graph([proto], "case", ends[:1], ends[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (wanted,) = ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])).run(
            None, {"x": x}
        )
    (y,) = Case(op, [x], attrs, dtype=dtype, opset=opset).run()
    limit = (x == -inf) & np.isnan(wanted)  # minus infinity times zero, by some formulas
    assert all(np.isnan(v) or v == 0 for v in y[limit])
    np.testing.assert_allclose(y[~limit], wanted[~limit], rtol=1e-5, atol=1e-6)


def test_gelu_is_accurate_far_out() -> None:
    """In float32, 6 units in the last place wherever the result is a normal number; held between its bounds."""
    x = np.concatenate([np.linspace(-13.4, 13.4, 40013), np.linspace(-1, 1, 20011), -np.logspace(-37, 0, 2003)])
    x = x.astype(np.float32)
    wide = torch.tensor(x.astype(np.float64))
    wanted = (wide * 0.5 * torch.special.erfc(-wide * 0.5**0.5)).numpy()
    (y,) = Case("Gelu", [x], opset=20).run()
    np.testing.assert_array_less(abs(y - wanted), 6 * np.spacing(abs(wanted).astype(np.float32)) + 1.2e-38)
    assert np.all((y <= np.maximum(x, 0)) & (y >= np.minimum(x, 0)))


def test_attributes_that_mean_nothing_are_refused() -> None:
    x = np.ones(3, np.float32)
    with pytest.raises(ModelError, match=r"Gelu 'node': approximate is 'erf'"):
        Case("Gelu", [x], {"approximate": "erf"}, opset=20).run()
    with pytest.raises(ModelError, match=r"Celu 'node': alpha is 0"):
        Case("Celu", [x], {"alpha": 0.0}).run()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("op", "function"), [("Floor", np.floor), ("Ceil", np.ceil), ("Round", np.rint)])
def test_rounding(op: str, function: Any, dtype: Any) -> None:
    """Halves go to the even neighbour; no gradient passes."""
    special = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, inf, -inf, nan, 1e-40, 2**23 + 1.0, -8388609.0, 0.49999997]
    x = np.concatenate([np.array(special), RNG.standard_normal(1000) * 100]).astype(dtype)
    np.testing.assert_array_equal(Case(op, [x], dtype=dtype).run()[0], function(x))


@pytest.mark.parametrize(("opset", "gamma"), [(1, 1.0507), (6, 1.05070102214813232421875)])
def test_the_first_selu_has_other_defaults(opset: int, gamma: float) -> None:
    (y,) = Case("Selu", [np.array([2.0])], opset=opset, dtype=np.float64).run()
    np.testing.assert_allclose(y, 2 * gamma, rtol=1e-15)


@pytest.mark.parametrize(
    ("op", "wanted"), [("Reciprocal", [0.5, -4.0, inf]), ("Floor", [2, -1, 0]), ("Ceil", [2, 0, 0])]
)
def test_constants_are_folded(op: str, wanted: list[float]) -> None:
    case = Case(op, [np.array([2.0, -0.25, 0.0], np.float32)])
    graph = case.graph()
    graph.nodes.insert(0, Node("Constant", [], ["i0"], {"value": case.inputs[0]}))
    graph.inputs = []
    lowered = lower_for_inference(graph, {}, {}, np.dtype(np.float32))
    assert not lowered.nodes
    np.testing.assert_array_equal(lowered.initializers["o0"], wanted)
