"""Chains of element-wise nodes become one node; results stay those of the formulas in float64 and of onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import reference
import torch
from guards import run_guarded
from networks import onnxruntime_run, proto
from onnx import helper, numpy_helper
from torch.nn import functional

import nbcnn
from nbcnn.autodiff import differentiate
from nbcnn.executor import execute
from nbcnn.graph import Value
from nbcnn.kernels import opcodes
from nbcnn.lower import lower_for_training
from nbcnn.passes.pack import pack_weights
from nbcnn.passes.specialize import Mode

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
    opset: int = 17,
) -> onnx.ModelProto:
    """weights: whether numbers are initializers, which can be trained, or constants."""
    named = {k: np.array(v, np.float32) for k, v in NUMBERS.items() if any(k in n.input for n in nodes)}
    inputs = dict.fromkeys([name for name in ("x", "z") if any(name in n.input for n in nodes)], shape)
    if weights:
        return proto(nodes, inputs, dict.fromkeys(outputs, shape), named)
    told = [node("Constant", [], [k], value=numpy_helper.from_array(v)) for k, v in named.items()]
    return proto([*told, *nodes], inputs, dict.fromkeys(outputs, shape), {}, opset)


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


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("SiLU", opcodes.SWISH),
        ("HardSwish", opcodes.HARD_SWISH),
        ("HardSwish, divided last", opcodes.HARD_SWISH),
        ("HardSwish, divided first", opcodes.HARD_SWISH),
        ("Mish", opcodes.MISH),
        ("Gelu", opcodes.GELU),
        ("Gelu by tanh", opcodes.GELU_TANH),
    ],
)
def test_an_activation_that_is_spelled_out_is_one_step(name: str, code: int) -> None:
    model = nbcnn.load(network(CASES[name][0], (2, 5)))
    (chain,) = model.plan(feeds(model, (2, 5))).graph.nodes
    assert [step[0] for step in chain.attrs["program"].steps] == [code]


@pytest.mark.parametrize(
    ("slope", "low", "high", "factor"), [(1.0, 0.0, 6.0, 0.2), (1.0, 0.0, 5.0, 1 / 6), (0.9, 0.0, 6.0, 1 / 6)]
)
def test_what_is_only_like_an_activation_is_not_taken_for_it(
    slope: float, low: float, high: float, factor: float
) -> None:
    """x (slope x + 3 between low and high) factor, with numbers that are not HardSwish's."""
    numbers = {"slope": slope, "three": 3.0, "low": low, "high": high, "factor": factor}
    nodes = [node("Constant", [], [k], value=numpy_helper.from_array(np.float32(v))) for k, v in numbers.items()]
    nodes += [
        node("Mul", ["x", "slope"], ["a"]),
        node("Add", ["a", "three"], ["b"]),
        node("Clip", ["b", "low", "high"], ["c"]),
        node("Mul", ["x", "c"], ["d"]),
        node("Mul", ["d", "factor"], ["y"]),
    ]
    model = nbcnn.load(proto(nodes, {"x": (40,)}, {"y": (40,)}, {}))
    x = np.linspace(-8, 8, 40, dtype=np.float32)
    wanted = x.astype(np.float64) * np.clip(slope * x + 3, low, high) * factor
    np.testing.assert_allclose(model.run(None, {"x": x})[0], wanted, rtol=1e-6, atol=1e-6)


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


# --- training -------------------------------------------------------------------------------------------------------

BY_TORCH: dict[str, tuple[list[onnx.NodeProto], Callable[[torch.Tensor], torch.Tensor]]] = {
    "SiLU": (CASES["SiLU"][0], functional.silu),
    "Mish": (CASES["Mish"][0], functional.mish),
    "Gelu": (CASES["Gelu"][0], functional.gelu),
    "Gelu by tanh": (CASES["Gelu by tanh"][0], lambda x: functional.gelu(x, approximate="tanh")),
    "HardSwish": (CASES["HardSwish"][0], functional.hardswish),
    "HardSwish, divided last": (CASES["HardSwish, divided last"][0], functional.hardswish),
    "a node, then another": (
        [node("Gelu", ["x"], ["a"]), node("HardSwish", ["a"], ["y"])],
        lambda x: functional.hardswish(functional.gelu(x)),
    ),
    "bent lines": (
        [
            node("LeakyRelu", ["x"], ["a"], alpha=0.3),
            node("Elu", ["a"], ["b"], alpha=1.5),
            node("Relu", ["x"], ["c"]),
            node("Mul", ["b", "c"], ["d"]),
            node("Softsign", ["x"], ["e"]),
            node("Abs", ["e"], ["f"]),
            node("Sub", ["d", "f"], ["y"]),
        ],
        lambda x: (
            functional.elu(functional.leaky_relu(x, 0.3), 1.5) * functional.relu(x) - abs(functional.softsign(x))
        ),
    ),
    "roots and quotients": (
        [
            node("Mul", ["x", "x"], ["a"]),
            node("Add", ["a", "one"], ["b"]),
            node("Sqrt", ["b"], ["c"]),
            node("Log", ["b"], ["d"]),
            node("Div", ["d", "c"], ["e"]),
            node("Neg", ["e"], ["f"]),
            node("Exp", ["f"], ["g"]),
            node("Add", ["one", "g"], ["h"]),
            node("Div", ["two", "h"], ["i"]),
            node("Floor", ["x"], ["j"]),
            node("Add", ["i", "j"], ["y"]),
        ],
        lambda x: 2 / (1 + torch.exp(-torch.log(x * x + 1) / torch.sqrt(x * x + 1))) + torch.floor(x),
    ),
    "extremes": (
        [
            node("Max", ["x", "half"], ["a"]),
            node("Clip", ["x", "zero", "two"], ["b"]),
            node("Tanh", ["x"], ["c"]),
            node("Max", ["b", "c"], ["d"]),
            node("HardSigmoid", ["x"], ["e"], alpha=0.2, beta=0.5),
            node("Min", ["e", "d"], ["f"]),
            node("Mul", ["a", "f"], ["y"]),
        ],
        lambda x: torch.clamp(x, min=0.5)
        * torch.minimum(torch.clamp(0.2 * x + 0.5, 0, 1), torch.maximum(torch.clamp(x, 0, 2), torch.tanh(x))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", BY_TORCH)
def test_a_chain_is_trained_as_one(name: str, shape: tuple[int, ...], dtype: Any) -> None:
    nodes, formula = BY_TORCH[name]
    model = nbcnn.load(network(nodes, shape, opset=20), dtype=np.dtype(dtype).name)
    kind = np.dtype(dtype)
    graph = lower_for_training(model.graph, {"x": (shape, kind)}, kind, ["y"], Mode(True))
    assert [n.op for n in graph.nodes] == ["Chain"]
    graph.values["dy"] = Value("dy", kind, shape)
    graph.inputs.append(graph.values["dy"])
    found = differentiate(graph, {"y": "dy"}, ["x"])
    graph.outputs = [graph.values["y"], graph.values[found["x"]]]
    plan = model.build(graph)
    given = {key: (2 * RNG.standard_normal(shape)).astype(dtype) for key in ("x", "dy")}
    for key, array in given.items():
        plan.array(key)[...] = array
    execute(plan)
    x = torch.tensor(given["x"].astype(np.float64), requires_grad=True)
    y = formula(x)
    y.backward(torch.tensor(given["dy"].astype(np.float64)))
    assert x.grad is not None
    tolerance = 1e-5 if dtype == np.float32 else 1e-6  # the numbers are written in float32
    for value, wanted in zip(graph.outputs, (y.detach(), x.grad), strict=True):
        np.testing.assert_allclose(plan.array(value.name), wanted.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("trained", [True, False])
def test_a_number_that_is_trained_stays_outside(trained: bool) -> None:
    """The slope of a Swish, once a weight like any other and once frozen."""
    nodes = [
        node("Mul", ["x", "slope"], ["a"]),
        node("Sigmoid", ["a"], ["b"]),
        node("Mul", ["x", "b"], ["c"]),
        node("Gemm", ["c", "w"], ["y"]),
    ]
    w = RNG.standard_normal((5, 3)).astype(np.float32)
    start = {"slope": np.array(NUMBERS["slope"], np.float32), "w": w}
    model = nbcnn.load(proto(nodes, {"x": (4, 5)}, {"y": (4, 3)}, start))
    graph = lower_for_training(
        model.graph, {"x": ((4, 5), w.dtype)}, w.dtype, ["y"], Mode(True), ["w", "slope"] if trained else ["w"]
    )
    assert ("Sigmoid" in [n.op for n in graph.nodes]) is trained
    graph.values["dy"] = Value("dy", w.dtype, (4, 3))
    graph.inputs.append(graph.values["dy"])
    found = differentiate(graph, {"y": "dy"}, ["x", "slope"] if trained else ["x"])
    graph.outputs = [graph.values[name] for name in found.values()]
    pack_weights(graph, model.parameters)
    plan = model.build(graph)
    given = {"x": RNG.standard_normal((4, 5)), "dy": RNG.standard_normal((4, 3))}
    x, slope = (torch.tensor(np.float64(v), requires_grad=True) for v in (given["x"], NUMBERS["slope"]))
    (x * torch.sigmoid(slope * x) @ torch.tensor(w.astype(np.float64))).backward(torch.tensor(given["dy"]))
    for key, array in given.items():
        plan.array(key)[...] = array
    execute(plan)
    for name, tensor in zip(found.values(), (x, slope), strict=False):
        assert tensor.grad is not None
        np.testing.assert_allclose(plan.array(name).reshape(tensor.shape), tensor.grad.numpy(), rtol=1e-5, atol=1e-5)
