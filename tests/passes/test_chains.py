"""Chains of element-wise nodes become one node; results stay those of the formulas in float64 and of onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import reference
from guards import run_guarded
from networks import onnxruntime_run, proto
from onnx import helper, numpy_helper

import nbcnn

RNG = np.random.default_rng(0)
SHAPES = [(1,), (2, 5, 1, 17), (3, 33, 70, 3)]
Formula = Callable[[Any, Any], Any]
node = helper.make_node
NUMBERS = {"half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "six": 6.0, "root": 2**0.5, "cubic": 0.044715}
NUMBERS |= {"sixth": 1 / 6, "zero": 0.0, "slope": (2 / np.pi) ** 0.5, "nan": np.nan}


def sigmoid(x: Any) -> Any:
    return reference.sigmoid(x)


def hard_swish(x: Any, z: Any) -> Any:
    return x * np.clip(x + 3, 0, 6) / 6


# name: nodes, and what they compute from x and z
CASES: dict[str, tuple[list[onnx.NodeProto], Formula]] = {
    "SiLU": ([node("Sigmoid", ["x"], ["a"]), node("Mul", ["x", "a"], ["y"])], lambda x, z: x * sigmoid(x)),
    "gated": ([node("Sigmoid", ["z"], ["a"]), node("Mul", ["x", "a"], ["y"])], lambda x, z: x * sigmoid(z)),
    "HardSwish": (
        [node("HardSigmoid", ["x"], ["a"], alpha=1 / 6, beta=0.5), node("Mul", ["a", "x"], ["y"])],
        hard_swish,
    ),
    "HardSwish, divided last": (
        [
            node("Add", ["x", "three"], ["a"]),
            node("Clip", ["a", "zero", "six"], ["b"]),
            node("Mul", ["x", "b"], ["c"]),
            node("Div", ["c", "six"], ["y"]),
        ],
        hard_swish,
    ),
    "HardSwish, divided first": (
        [
            node("Add", ["three", "x"], ["a"]),
            node("Clip", ["a", "zero", "six"], ["b"]),
            node("Mul", ["b", "sixth"], ["c"]),
            node("Mul", ["x", "c"], ["y"]),
        ],
        hard_swish,
    ),
    "Mish": (
        [node("Softplus", ["x"], ["a"]), node("Tanh", ["a"], ["b"]), node("Mul", ["x", "b"], ["y"])],
        lambda x, z: x * np.tanh(reference.softplus(x)),
    ),
    "Gelu": (
        [
            node("Div", ["x", "root"], ["a"]),
            node("Erf", ["a"], ["b"]),
            node("Add", ["b", "one"], ["c"]),
            node("Mul", ["x", "c"], ["d"]),
            node("Mul", ["d", "half"], ["y"]),
        ],
        lambda x, z: x * 0.5 * (1 + reference.erf(x / np.sqrt(2))),
    ),
    "Gelu by tanh": (
        [
            node("Mul", ["half", "x"], ["a"]),
            node("Pow", ["x", "three"], ["b"]),
            node("Mul", ["cubic", "b"], ["c"]),
            node("Add", ["x", "c"], ["d"]),
            node("Mul", ["slope", "d"], ["e"]),
            node("Tanh", ["e"], ["f"]),
            node("Add", ["one", "f"], ["g"]),
            node("Mul", ["a", "g"], ["y"]),
        ],
        lambda x, z: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    ),
    "sum, then Sigmoid": ([node("Add", ["x", "z"], ["a"]), node("Sigmoid", ["a"], ["y"])], lambda x, z: sigmoid(x + z)),
    "clamped sum": (
        [node("Add", ["x", "z"], ["a"]), node("Relu", ["a"], ["b"]), node("Neg", ["b"], ["y"])],
        lambda x, z: -np.maximum(x + z, 0),
    ),
    "two ways that meet": (
        [
            node("Exp", ["x"], ["a"]),
            node("Tanh", ["z"], ["b"]),
            node("Sub", ["a", "b"], ["c"]),
            node("Abs", ["c"], ["y"]),
        ],
        lambda x, z: abs(np.exp(x) - np.tanh(z)),
    ),
    "numbers on either side": (
        [
            node("Sub", ["one", "x"], ["a"]),
            node("Sub", ["a", "three"], ["b"]),
            node("Div", ["six", "b"], ["c"]),
            node("Pow", ["c", "two"], ["d"]),
            node("Max", ["d", "half"], ["e"]),
            node("Min", ["two", "e"], ["f"]),
            node("Div", ["f", "zero"], ["g"]),
            node("Neg", ["g"], ["y"]),
        ],
        lambda x, z: -np.clip((6 / (-2 - x)) ** 2, 0.5, 2) / np.float64(0),
    ),
    "square, logarithm, root": (
        [
            node("Mul", ["x", "x"], ["a"]),
            node("Add", ["a", "three"], ["b"]),
            node("Log", ["b"], ["c"]),
            node("Sqrt", ["c"], ["d"]),
            node("Max", ["d", "z"], ["y"]),
        ],
        lambda x, z: np.maximum(np.sqrt(np.log(x * x + 3)), z),
    ),
    "not a number": ([node("Min", ["x", "nan"], ["a"]), node("Neg", ["a"], ["y"])], lambda x, z: x * np.nan),
}  # fmt: skip


def network(
    nodes: list[onnx.NodeProto],
    shape: tuple[int, ...],
    outputs: tuple[str, ...] = ("y",),
    weights: bool = False,
) -> onnx.ModelProto:
    """weights: whether numbers are initializers, which can be trained, or constants."""
    named = {k: np.array(v, np.float32) for k, v in NUMBERS.items() if any(k in n.input for n in nodes)}
    inputs = dict.fromkeys([name for name in ("x", "z") if any(name in n.input for n in nodes)], shape)
    if weights:
        return proto(nodes, inputs, dict.fromkeys(outputs, shape), named)
    told = [node("Constant", [], [k], value=numpy_helper.from_array(v)) for k, v in named.items()]
    return proto([*told, *nodes], inputs, dict.fromkeys(outputs, shape), {})


def feeds(model: nbcnn.Model, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {value.name: (2 * RNG.standard_normal(shape)).astype(np.float32) for value in model.inputs}


def ops(model: nbcnn.Model, given: dict[str, np.ndarray], outputs: list[str] | None = None) -> list[str]:
    return [n.op for n in model.plan(given, outputs).graph.nodes]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CASES)
def test_a_chain_is_one_node(name: str, shape: tuple[int, ...]) -> None:
    nodes, formula = CASES[name]
    source = network(nodes, shape)
    for dtype, tolerance in (("float32", 3e-6), ("float64", 1e-7)):  # the numbers are written in float32
        model = nbcnn.load(source, dtype=dtype)
        given = feeds(model, shape)
        wide = {k: a.astype(np.float64) for k, a in given.items()}
        assert ops(model, given) == ["Chain"]
        (got,) = model.run(None, given)
        with np.errstate(divide="ignore"):
            wanted = formula(wide.get("x"), wide.get("z"))
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(got, onnxruntime_run(source, given)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_numbers_that_are_weights_keep_their_effect(name: str) -> None:
    nodes, _ = CASES[name]
    shape = (2, 5, 3, 7)
    source = network(nodes, shape, weights=True)
    model = nbcnn.load(source)
    given = feeds(model, shape)
    np.testing.assert_allclose(model.run(None, given)[0], onnxruntime_run(source, given)[0], rtol=1e-5, atol=1e-5)
    for array in source.graph.initializer:
        if array.name not in ("zero", "six", "nan") and not any(
            "Pow" in n.op_type and array.name in n.input for n in nodes
        ):
            changed = (numpy_helper.to_array(array) * 1.25).astype(np.float32)
            array.CopyFrom(numpy_helper.from_array(changed, array.name))
            model.parameters[array.name].value = changed
            wanted = onnxruntime_run(source, given)[0]
            np.testing.assert_allclose(model.run(None, given)[0], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wanted", ["a", "b", "c", "d"])
def test_values_inside_are_served(wanted: str) -> None:
    nodes, _ = CASES["Gelu"]
    shape = (2, 3, 4, 5)
    source = network(nodes, shape, (wanted, "y"))
    model = nbcnn.load(network(nodes, shape))
    given = feeds(model, shape)
    for got, want in zip(model.run([wanted, "y"], given), onnxruntime_run(source, given), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert "Chain" in ops(model, given, [wanted, "y"])
    np.testing.assert_allclose(model.run([wanted], given)[0], onnxruntime_run(source, given)[0], rtol=1e-5, atol=1e-6)


BEHIND = [
    node("Conv", ["i", "w"], ["x"], pads=[1, 1, 1, 1]),
    node("Conv", ["i", "v"], ["z"]),
    *CASES["HardSwish, divided last"][0][:-1],
    node("Div", ["c", "six"], ["d"]),
    node("Sigmoid", ["z"], ["g"]),
    node("Mul", ["d", "g"], ["e"]),
    node("Conv", ["e", "u"], ["y"]),
]


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize(("batch", "channels"), [(1, 17), (2, 64), (64, 4)])
def test_between_convolutions(batch: int, channels: int, weights: bool) -> None:
    """Channels last, pictures in lanes, and where a chain takes over the memory of what it reads."""
    shapes = {"w": (channels, 3, 3, 3), "v": (channels, 3, 1, 1), "u": (3, channels, 1, 1)}
    arrays = {k: RNG.standard_normal(shape).astype(np.float32) for k, shape in shapes.items()}
    source = network(BEHIND, (), weights=weights)
    whole = proto(list(source.graph.node), {"i": (batch, 3, 9, 7)}, {"y": (batch, 3, 9, 7)}, arrays)
    whole.graph.initializer.extend(source.graph.initializer)
    model = nbcnn.load(whole)
    given = {"i": RNG.standard_normal((batch, 3, 9, 7)).astype(np.float32)}
    assert ops(model, given).count("Chain") == 1 and "Mul" not in ops(model, given)
    np.testing.assert_allclose(model.run(None, given)[0], onnxruntime_run(whole, given)[0], rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["Gelu by tanh", "two ways that meet"])
def test_nothing_is_read_or_written_outside(name: str) -> None:
    shape = (3, 33, 7, 19)
    model = nbcnn.load(network(CASES[name][0], shape))
    given = feeds(model, shape)
    plan = model.plan(given)
    for key, array in given.items():
        plan.array(key)[...] = array
    found = run_guarded(plan)["y"]
    np.testing.assert_array_equal(found.reshape(shape), model.run(None, given)[0])
