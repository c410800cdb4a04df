"""Comparisons and what works on booleans, against NumPy, of all types and in both layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from channels_last import ChannelsLast
from harness import Case
from onnx import TensorProto, helper

from nbcnn import load
from nbcnn.errors import ModelError

RNG = np.random.default_rng(8)
COMPARISONS: dict[str, Callable[..., np.ndarray]] = {
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
}
BOOLEAN: dict[str, Callable[..., np.ndarray]] = {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((), ()),
    ((9000,), (9000,)),
    ((2, 3, 4, 17), (2, 3, 4, 17)),
    ((2, 5, 3, 4), (5, 1, 1)),
    ((2, 3, 5, 4), (2, 3, 1, 1)),
    ((2, 3, 5, 4), ()),
    ((), (3, 70, 50)),
    ((2, 3, 5, 4), (5, 1)),
    ((3, 1, 5), (1, 4, 1)),
    ((0, 3), (3,)),
    ((2, 1, 3, 1, 2, 1, 3, 1), (1, 2, 1, 3, 1, 2, 1, 3)),
]


@pytest.mark.parametrize(("kind", "dtype"), [(Case, np.float32), (Case, np.float64), (ChannelsLast, np.float32)])
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("op", COMPARISONS)
def test_comparisons_of_floats(op: str, shapes: tuple[tuple[int, ...], ...], kind: type[Case], dtype: Any) -> None:
    some = np.array([-1, 0, -0.0, 1, 2, np.inf, np.nan])
    a, b = (np.asarray(RNG.choice(some, shape)).astype(dtype) for shape in shapes)
    if kind is ChannelsLast:
        a, b = np.nan_to_num(a, posinf=3), np.nan_to_num(b, posinf=3)  # its convolution sums over channels
    (y,) = kind(op, [a, b], dtype=dtype).run()
    assert y.dtype == bool
    np.testing.assert_array_equal(y, COMPARISONS[op](a, b))


@pytest.mark.parametrize("fed", [True, False])
@pytest.mark.parametrize(
    ("op", "kind"),
    [(op, kind) for op in COMPARISONS for kind in (np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64)]
    + [("Equal", np.bool_)],
)
def test_comparisons_of_integers(op: str, kind: Any, fed: bool) -> None:
    a, b = RNG.integers(0, 2 if kind is np.bool_ else 4, (2, 3, 4)).astype(kind), np.array([[1], [0], [1]], kind)
    (y,) = Case(op, [a, b], weights=(1,) if fed else (0, 1)).run()
    np.testing.assert_array_equal(y, COMPARISONS[op](a, b))


def test_large_integers_are_not_compared_as_floats() -> None:
    a = np.array([2**62 + 1])
    np.testing.assert_array_equal(Case("Equal", [a, a - 1]).run()[0], [False])


@pytest.mark.parametrize("fed", [True, False])
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("op", BOOLEAN)
def test_booleans(op: str, shapes: tuple[tuple[int, ...], ...], fed: bool) -> None:
    a, b = (np.asarray(RNG.integers(0, 2, shape)).astype(bool) for shape in shapes)
    (y,) = Case(op, [a, b], weights=() if fed else (0, 1)).run()
    np.testing.assert_array_equal(y, BOOLEAN[op](a, b))


@pytest.mark.parametrize("fed", [True, False])
def test_not(fed: bool) -> None:
    x = np.array([[True, False]])
    np.testing.assert_array_equal(Case("Not", [x], weights=() if fed else (0,)).run()[0], [[False, True]])


@pytest.mark.parametrize(("op", "rule"), [*BOOLEAN.items(), ("Equal", np.equal), ("Less", np.less)])
def test_broadcasting_before_opset_7(op: str, rule: Callable[..., np.ndarray]) -> None:
    a, b = RNG.integers(0, 2, (2, 3, 4)).astype(bool), np.array([True, False, True])
    if op == "Less":
        a, b = a.astype(np.float32), b.astype(np.float32)
    for weights in ((), (1,), (0, 1)):
        (y,) = Case(op, [a, b], {"broadcast": 1, "axis": 1}, weights=weights, opset=6).run()
        np.testing.assert_array_equal(y, rule(a, b[:, None]))
    with pytest.raises(ModelError, match=f"{op} 'node': shapes"):
        Case(op, [a, b], opset=6).run()


def test_equal_strings() -> None:
    ports = [helper.make_tensor_value_info(name, TensorProto.STRING, ["N"]) for name in ("a", "b")]
    result = helper.make_tensor_value_info("y", TensorProto.BOOL, ["N"])
    graph = helper.make_graph([helper.make_node("Equal", ["a", "b"], ["y"])], "equal", ports, [result])
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9))
    a, b = (np.array(texts, object) for texts in (["yes", "no", "ß"], ["yes", "No", "ß"]))
    np.testing.assert_array_equal(model.run(None, {"a": a, "b": b})[0], [True, False, True])
    np.testing.assert_array_equal(model.run(None, {"a": a, "b": a})[0], [True, True, True])


@pytest.mark.parametrize("fed", [True, False])
@pytest.mark.parametrize(
    ("op", "attrs", "wanted"),
    [
        ("IsNaN", {}, [0, 0, 1, 0]),
        ("IsInf", {}, [0, 1, 0, 1]),
        ("IsInf", {"detect_positive": 0}, [0, 0, 0, 1]),
        ("IsInf", {"detect_negative": 0}, [0, 1, 0, 0]),
        ("IsInf", {"detect_negative": 0, "detect_positive": 0}, [0, 0, 0, 0]),
    ],
)
def test_not_finite(op: str, attrs: dict[str, int], wanted: list[int], fed: bool) -> None:
    x = np.array([1, np.inf, np.nan, -np.inf], np.float32)
    (y,) = Case(op, [x], attrs, weights=() if fed else (0,), opset=20).run()
    assert y.dtype == bool
    np.testing.assert_array_equal(y, np.array(wanted, bool))


def test_floats_of_a_byte_that_are_not_finite() -> None:
    x = np.array([1, np.inf, np.nan, -np.inf]).astype("float8_e5m2")
    np.testing.assert_array_equal(Case("IsNaN", [x], opset=20).run()[0], [False, False, True, False])
    np.testing.assert_array_equal(Case("IsInf", [x], opset=20).run()[0], [False, True, False, True])


@pytest.mark.parametrize("fed", [True, False])
@pytest.mark.parametrize(("op", "rule"), [("Floor", np.floor), ("Ceil", np.ceil), ("Round", np.rint)])
def test_rounding(op: str, rule: Callable[..., np.ndarray], fed: bool) -> None:
    x = np.array([-2.5, -0.4, 0, 0.5, 1.5, 7.2], np.float32)
    np.testing.assert_array_equal(Case(op, [x], weights=() if fed else (0,)).run()[0], rule(x))


def test_operands_that_do_not_fit() -> None:
    with pytest.raises(ModelError, match=r"Equal 'node': operands of the types int64 and float32"):
        Case("Equal", [np.array([1]), np.ones(1, np.float32)]).run()
    with pytest.raises(ModelError, match=r"Or 'node': shapes \(2,\) and \(3,\) do not broadcast"):
        Case("Or", [np.ones(2, bool), np.ones(3, bool)]).run()


@pytest.mark.parametrize("op", ["And", "Not", "Less", "Add", "Max"])
def test_wrong_types_are_named(op: str) -> None:
    x = np.ones(2, np.float32) if op in ("And", "Not") else np.ones(2, bool)
    with pytest.raises(ModelError, match=f"{op} 'node': takes (booleans|numbers), but 'i0' holds (float32|bool)"):
        Case(op, [x] if op == "Not" else [x, x]).run()
