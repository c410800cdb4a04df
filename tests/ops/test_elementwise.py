"""Operators of one input, element by element, against the oracle; what is computed when the plan is made."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
import reference
from harness import Case

from nbcnn.errors import UnsupportedError
from nbcnn.graph import Node, Value
from nbcnn.kernels import load, opcodes

RNG = np.random.default_rng(0)
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-14}
UNARY: list[tuple[str, str, dict[str, Any]]] = [
    ("Relu", "relu", {}),
    ("LeakyRelu", "leaky_relu", {}),
    ("LeakyRelu", "leaky_relu", {"alpha": 0.3}),
    ("Elu", "elu", {"alpha": 0.7}),
    ("Selu", "selu", {}),
    ("Sigmoid", "sigmoid", {}),
    ("HardSigmoid", "hard_sigmoid", {"alpha": 0.25, "beta": 0.4}),
    ("Tanh", "tanh", {}),
    ("Softplus", "softplus", {}),
    ("Softsign", "softsign", {}),
    ("Sign", "sign", {}),
    ("Abs", "abs_", {}),
    ("Neg", "neg", {}),
    ("Exp", "exp", {}),
    ("Erf", "erf", {}),
]
POSITIVE: list[tuple[str, str, dict[str, Any]]] = [("Log", "log", {}), ("Sqrt", "sqrt", {})]
SHAPES = [(1,), (3, 5, 1, 17), (2, 33, 70, 3)]


def oracle(name: str) -> tuple[Any, Any]:
    return getattr(reference, name), getattr(reference, f"{name.rstrip('_')}_backward")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("op", "name", "attrs"), UNARY + POSITIVE)
def test_forward_and_backward(op: str, name: str, attrs: dict[str, Any], shape: tuple[int, ...], dtype: Any) -> None:
    x = (RNG.standard_normal(shape) * 3).astype(dtype)
    if (op, name, attrs) in POSITIVE:
        x = abs(x) + dtype(0.1)
    dy = RNG.standard_normal(shape).astype(dtype)
    forward, backward = oracle(name)
    near: dict[str, Any] = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    case = Case(op, [x], attrs, dtype=dtype)
    np.testing.assert_allclose(case.run()[0], forward(x, **attrs), **near)
    (y,), (dx,) = case.run_training([dy])
    np.testing.assert_allclose(y, forward(x, **attrs), **near)
    np.testing.assert_allclose(dx, backward(dy, x, **attrs), **near)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("op", "name", "attrs"), UNARY)
def test_special_values(op: str, name: str, attrs: dict[str, Any], dtype: Any) -> None:
    """NaN stays NaN, infinities and huge numbers give what the limit is, and derivatives at kinks are PyTorch's."""
    x = np.array([np.nan, np.inf, -np.inf, 0, 1, -1, 90, -90, 800, -800, 1e-30, -1e-5], dtype)
    forward, backward = oracle(name)
    with np.errstate(all="ignore"):
        wanted = forward(x, **attrs).astype(dtype)
    if op != "Softsign":  # infinity over infinity, by its formula
        np.testing.assert_allclose(Case(op, [x], attrs, dtype=dtype).run()[0], wanted, rtol=3e-6, atol=1e-37)
    finite = x[3:6]
    _, (dx,) = Case(op, [finite], attrs, dtype=dtype).run_training([np.ones(3, dtype)])
    np.testing.assert_allclose(dx, backward(np.ones(3), finite, **attrs), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("op", ["Exp", "Tanh", "Elu", "Sigmoid", "Softplus", "Erf", "Log"])
def test_float32_is_accurate_over_the_whole_range(op: str) -> None:
    """The polynomials are within 4 units in the last place wherever the result is a normal number."""
    x = np.concatenate([np.linspace(-87, 88.7, 20011), np.linspace(-1, 1, 20011), np.linspace(-5, 5, 20011)])
    if op == "Log":
        x = np.append(np.exp(x[:20011]), 1 + x[20011:] / 8)
    x = x.astype(np.float32)
    exact = {"Sigmoid": lambda x: 1 / (1 + np.exp(-x))}  # the oracle's form of it is exact to 1e-16, but not relatively
    wanted = exact.get(op, getattr(reference, op.lower()))(x.astype(np.float64))
    (y,) = Case(op, [x]).run()
    np.testing.assert_array_less(abs(y - wanted), 4 * np.spacing(abs(wanted).astype(np.float32)) + 1e-37)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logarithm_of_special_values(dtype: Any) -> None:
    """Numbers too small to be normal included."""
    x = np.array([0, -0.0, -1, -1e-40, np.inf, -np.inf, np.nan, 1, 1e-45, 1e-40, 3e38], dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(Case("Log", [x], dtype=dtype).run()[0], np.log(x.astype(np.float64)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hard_swish(dtype: Any) -> None:
    """x times HardSigmoid of x with alpha 1/6 and beta 1/2, as ONNX defines it; the derivative by the product rule."""
    x = np.append(np.linspace(-5, 5, 41), np.nan).astype(dtype)
    x[[8, 32]] += dtype(0.01)  # not the kinks, -3 and 3
    dy = RNG.standard_normal(x.shape).astype(dtype)
    (y,), (dx,) = Case("HardSwish", [x], dtype=dtype).run_training([dy])
    gate = reference.hard_sigmoid(x, 1 / 6, 0.5)
    near: dict[str, Any] = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    np.testing.assert_allclose(y, x * gate, **near)
    slope = gate + x * reference.hard_sigmoid_backward(np.ones(x.shape), x, 1 / 6, 0.5)
    np.testing.assert_allclose(dx, dy * slope, **near)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("opset", [6, 11, 13])
@pytest.mark.parametrize(("low", "high"), [(-0.5, 1.0), (None, 0.25), (0.0, None), (None, None), (1.0, -1.0)])
def test_clip(low: float | None, high: float | None, opset: int, dtype: Any) -> None:
    x = RNG.standard_normal((2, 3, 5)).astype(dtype)
    x[0, 0] = [-0.5, 1.0, 0.25, 0.0, 0.125]
    dy = RNG.standard_normal(x.shape).astype(dtype)
    if opset < 11:
        bounds = {name: v for name, v in (("min", low), ("max", high)) if v is not None}
        case = Case("Clip", [x], bounds, opset=opset, dtype=dtype)
    else:
        inputs = [x, *(None if v is None else np.array(v, dtype) for v in (low, high))]
        case = Case("Clip", inputs, weights=(1, 2), opset=opset, dtype=dtype)
    (y,), (dx,) = case.run_training([dy])
    np.testing.assert_array_equal(case.run()[0], reference.clip(x, low, high))
    np.testing.assert_array_equal(y, reference.clip(x, low, high))
    np.testing.assert_array_equal(dx, reference.clip_backward(dy, x, low, high))


@pytest.mark.parametrize("kind", [np.float32, np.int64])
@pytest.mark.parametrize("weights", [(), (1,), (0,), (0, 2)])
@pytest.mark.parametrize(("low", "high"), [(None, 2), (-1, None), (-1, 2), (2, -1)])
def test_clip_between_computed_bounds(low: int | None, high: int | None, weights: tuple[int, ...], kind: Any) -> None:
    x = np.arange(-4, 6).astype(kind)
    inputs = [x, *(None if bound is None else np.array(bound, kind) for bound in (low, high))]
    (y,) = Case("Clip", list(inputs), weights=weights).run()
    np.testing.assert_array_equal(y, np.minimum(np.maximum(x, -9 if low is None else low), 9 if high is None else high))
    assert y.dtype == kind


def test_gradients_by_computed_bounds() -> None:
    x, dy = np.array([-3, 0, 5, 7], np.float32), np.array([1, 2, 3, 4], np.float32)
    inputs = [x, np.array(-1, np.float32), np.array(2, np.float32)]
    _, grads = Case("Clip", list(inputs)).run_training([dy], wanted=(0, 1, 2))
    for grad, wanted in zip(grads, ([0, 2, 0, 0], 1, 7), strict=True):
        np.testing.assert_array_equal(grad, wanted)


@pytest.mark.parametrize("fed", [True, False])
@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize(
    ("op", "attrs", "wanted"),
    [
        ("Neg", {}, [1, 0, -5, None]),
        ("Abs", {}, [1, 0, 5, None]),
        ("Relu", {}, [0, 0, 5, 0]),
        ("Sign", {}, [-1, 0, 1, -1]),
        ("Clip", {"min": -2, "max": 3}, [-1, 0, 3, -2]),
    ],
)
def test_integers_keep_their_type(op: str, attrs: dict[str, Any], wanted: list[Any], kind: Any, fed: bool) -> None:
    lowest = np.iinfo(kind).min  # it has no opposite, and stays
    inputs = [np.array([-1, 0, 5, lowest], kind), *(np.array(bound, kind) for bound in attrs.values())]
    (y,) = Case(op, list(inputs), weights=tuple(range(int(fed), len(inputs)))).run()
    np.testing.assert_array_equal(y, np.array([lowest if v is None else v for v in wanted], kind))
    assert y.dtype == kind


def test_clip_of_large_integers_is_exact() -> None:
    x = np.array([2**62 + 1, -(2**62) - 1, 7])
    (y,) = Case("Clip", [x, None, np.array(2**62 - 1)], weights=(2,)).run()
    np.testing.assert_array_equal(y, [2**62 - 1, -(2**62) - 1, 7])


class AddThenBound(Case):
    """Add, then Relu or Clip, of integers."""

    bound = "Relu"

    def graph(self) -> Any:
        graph = super().graph()
        graph.nodes.append(Node(self.bound, ["o0"], ["o1"], {"min": 0} if self.bound == "Clip" else {}, name="bound"))
        graph.outputs = [Value("o1")]
        return graph


@pytest.mark.parametrize("bound", ["Relu", "Clip"])
def test_a_bound_of_integers_is_not_fused(bound: str) -> None:
    case = AddThenBound("Add", [np.array([-5, 3]), np.array([2, 2])], opset=10)
    case.bound = bound
    np.testing.assert_array_equal(case.run()[0], [0, 5])


def test_training_through_a_slope_that_hides_the_sign_is_refused() -> None:
    case = Case("LeakyRelu", [np.ones(3, np.float32)], {"alpha": -1.0})
    np.testing.assert_array_equal(case.run()[0], np.ones(3))
    with pytest.raises(UnsupportedError, match=r"LeakyRelu 'node': cannot be trained"):
        case.run_training([np.ones(3, np.float32)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 511, 513, 4096, 10007])
@pytest.mark.parametrize(("code", "name"), [(opcodes.SOFTPLUS, "softplus"), (opcodes.ABS, "abs_")])
def test_a_gradient_over_its_operands(code: int, name: str, size: int, dtype: Any) -> None:
    """dx is dy, or what was kept."""
    kernel, (_, backward) = load("cpu", "elementwise_grad"), oracle(name)
    x, dy = RNG.standard_normal((2, size)).astype(dtype)
    wanted = backward(dy, x)
    for over in (0, 1):
        arrays = [x.copy(), dy.copy()]
        tiles = np.empty(numba.get_num_threads() * opcodes.TILE, dtype)
        kernel(code, *arrays, arrays[over], dtype(0), dtype(0), tiles)
        np.testing.assert_allclose(arrays[over], wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        np.testing.assert_array_equal(arrays[1 - over], (x, dy)[1 - over])
