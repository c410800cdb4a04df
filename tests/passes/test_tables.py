"""Activations of quantized values, which become tables: every byte, against NumPy's floats and against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from guards import run_guarded
from onnx import helper
from quantized_graphs import dequantized, quantized, surrounded, theirs

import nbcnn
from nbcnn.plan import weight_only

Function = Callable[[np.ndarray], np.ndarray]


def node(op: str, *inputs: str, y: str = "y", **attrs: float) -> onnx.NodeProto:
    return helper.make_node(op, [*inputs], [y], **attrs)


def hard_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(x / 6 + 0.5, 0, 1)


SIXTH = np.float32(1 / 6)
NUMBERS = {"three": np.array(3, np.float32), "six": np.array([6], np.float32), "slope": np.array([0.25], np.float32)}
FUNCTIONS: dict[str, tuple[list[onnx.NodeProto], Function]] = {
    "nothing": ([node("Identity", "x")], lambda x: x),
    "relu": ([node("Relu", "x")], lambda x: np.maximum(x, 0)),
    "leaky relu": ([node("LeakyRelu", "x", alpha=0.25)], lambda x: np.where(x < 0, x / 4, x)),
    "prelu": ([node("PRelu", "x", "slope")], lambda x: np.where(x < 0, x / 4, x)),
    "sigmoid": ([node("Sigmoid", "x")], lambda x: 1 / (1 + np.exp(-x))),
    "tanh": ([node("Tanh", "x")], np.tanh),
    "elu": ([node("Elu", "x")], lambda x: np.where(x < 0, np.expm1(x), x)),
    "hard sigmoid": ([node("HardSigmoid", "x", alpha=SIXTH)], hard_sigmoid),
    "hard swish": ([node("HardSwish", "x")], lambda x: x * hard_sigmoid(x)),
    "clip": ([node("Clip", "x", "", "six")], lambda x: np.minimum(x, 6)),
    "swish": ([node("Sigmoid", "x", y="s"), node("Mul", "x", "s")], lambda x: x / (1 + np.exp(-x))),
    "written out": (
        [
            node("Add", "x", "three", y="a"),
            node("Relu", "a", y="b"),
            node("Min", "b", "six", y="c"),
            node("Div", "c", "six", y="d"),
            node("Mul", "x", "d"),
        ],
        lambda x: x * hard_sigmoid(x),
    ),
}
KINDS = [np.uint8, np.int8]
FIRST, LAST = (0.0625, 90), (0.0317, 21)


def zeros(kind: type) -> tuple[tuple[float, int], tuple[float, int]]:
    """Scales and zero points around a function, for unsigned or signed bytes."""
    shift = 128 if kind == np.int8 else 0
    return (FIRST[0], FIRST[1] - shift), (LAST[0], LAST[1] - shift)


def steps(function: Function, q: np.ndarray, first: tuple[float, int], last: tuple[float, int]) -> np.ndarray:
    """What a function makes of bytes, in float64, in steps of the result."""
    return function(dequantized(q, *first).astype(np.float64)) / np.float32(last[0])


def all_bytes(kind: type, shape: tuple[int, ...]) -> np.ndarray:
    """Every one, more than once, in an array of this shape."""
    count, info = int(np.prod(shape)), np.iinfo(kind)
    return (np.arange(count) * 37 % 256 + info.min).astype(kind).reshape(shape)


def operators(model: nbcnn.Model, x: np.ndarray) -> list[str]:
    """What is computed at every run."""
    plan = model.plan({"given": x})
    early = weight_only(plan.graph, [])
    return [n.op for n in plan.nodes if id(n) not in early]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_byte(name: str, kind: type) -> None:
    nodes, function = FUNCTIONS[name]
    first, last = zeros(kind)
    q = all_bytes(kind, (2, 5, 7, 9))
    network = surrounded(nodes, kind, first, last, NUMBERS)
    x = dequantized(q, *first)
    model = nbcnn.load(network)
    found = model.run(None, {"given": x})[0]
    assert operators(model, x) == ["QuantizeLinear", "LookUp", "DequantizeLinear"]
    exact = steps(function, q, first, last)
    wanted = dequantized(quantized(exact * np.float32(last[0]), *last, kind), *last)
    # Floats may end on either side of a half.
    sure = np.abs(exact - np.floor(exact) - 0.5) > 1e-4
    assert sure.mean() > 0.95
    np.testing.assert_array_equal(found[sure], wanted[sure])
    assert np.abs(found - wanted).max() <= last[0] * 1.01
    assert np.abs(found - theirs(network, x)).max() <= last[0] * 1.01


@pytest.mark.parametrize(
    "shape", [(1,), (3,), (1, 1, 1, 1), (3, 17, 1, 2), (1, 300, 3), (64,), (8192, 2), (70000,)], ids=str
)
def test_shapes(shape: tuple[int, ...]) -> None:
    q = all_bytes(np.uint8, shape)
    nodes, function = FUNCTIONS["leaky relu"]
    x = dequantized(q, *FIRST)
    model = nbcnn.load(surrounded(nodes, np.uint8, FIRST, LAST, ranks=(q.ndim, q.ndim)))
    wanted = dequantized(quantized(function(x), *LAST, np.uint8), *LAST)
    np.testing.assert_array_equal(model.run(None, {"given": x})[0], wanted)
    guarded = next(iter(run_guarded(model.plan({"given": x})).values()))
    np.testing.assert_array_equal(guarded.reshape(wanted.shape), wanted)


def test_floats_that_others_read() -> None:
    """An activation that is a result of the network, too, and one that another operator reads."""
    nodes = [node("HardSwish", "x", y="h"), node("LeakyRelu", "h"), node("Neg", "h", y="z")]
    network = surrounded(nodes, np.uint8, FIRST, LAST, outputs=["found", "h", "z"])
    q = all_bytes(np.uint8, (1, 3, 11, 13))
    x = dequantized(q, *FIRST)
    found, h, z = nbcnn.load(network).run(None, {"given": x})
    wanted = x * hard_sigmoid(x)
    np.testing.assert_allclose(h, wanted, atol=1e-6)
    np.testing.assert_array_equal(z, -h)
    leaky = np.where(wanted < 0, wanted * np.float32(0.01), wanted)
    assert np.abs(found - dequantized(quantized(leaky, *LAST, np.uint8), *LAST)).max() <= LAST[0] * 1.01


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_between(kind: type) -> None:
    """Swish as onnxruntime's tool quantizes it, and a LeakyRelu of that."""
    first, last = zeros(kind)
    between = {"ss": np.array(1 / 256, np.float32), "sz": np.array(np.iinfo(kind).min, kind)}
    nodes = [
        node("Sigmoid", "x", y="s"),
        node("QuantizeLinear", "s", "ss", "sz", y="sq"),
        node("DequantizeLinear", "sq", "ss", "sz", y="sd"),
        node("Mul", "x", "sd", y="m"),
        node("QuantizeLinear", "m", "ys", "yz", y="mq"),
        node("DequantizeLinear", "mq", "ys", "yz", y="md"),
        node("LeakyRelu", "md", alpha=0.25),
    ]
    q = all_bytes(kind, (1, 3, 17, 19))
    x = dequantized(q, *first)
    network = surrounded(nodes, kind, first, last, between)
    model = nbcnn.load(network)
    assert operators(model, x) == ["QuantizeLinear", "LookUp", "DequantizeLinear"]
    share = 1 / 256, int(np.iinfo(kind).min)
    s = dequantized(quantized(1 / (1 + np.exp(-x)), *share, kind), *share)
    m = dequantized(quantized(x * s, *last, kind), *last)
    wanted = dequantized(quantized(np.where(m < 0, m / 4, m), *last, kind), *last)
    found = model.run(None, {"given": x})[0]
    assert np.abs(found - wanted).max() <= last[0] * 1.01
    assert (found == wanted).mean() > 0.99
    assert np.abs(found - theirs(network, x)).max() <= last[0] * 1.01


def test_bytes_between_that_others_read() -> None:
    """A result of the network in the middle of a function."""
    nodes = [
        node("LeakyRelu", "x", y="s", alpha=0.25),
        node("QuantizeLinear", "s", "ys", "yz", y="sq"),
        node("DequantizeLinear", "sq", "ys", "yz", y="sd"),
        node("Neg", "sd"),
    ]
    x = dequantized(all_bytes(np.uint8, (1, 3, 17, 19)), *FIRST)
    model = nbcnn.load(surrounded(nodes, np.uint8, FIRST, LAST, outputs=["found", "sd"]))
    wanted = dequantized(quantized(np.where(x < 0, x / 4, x), *LAST, np.uint8), *LAST)
    found, middle = model.run(None, {"given": x})
    np.testing.assert_array_equal(middle, wanted)
    np.testing.assert_array_equal(found, dequantized(quantized(-wanted, *LAST, np.uint8), *LAST))


def test_not_of_one_value() -> None:
    """A product of two quantized values, one with a factor for each channel, and a scale for each channel."""
    weights = {"factor": np.array([[[1]], [[2]], [[3]]], np.float32)}
    two = [
        helper.make_node("QuantizeLinear", ["given", "ys", "yz"], ["p"]),
        helper.make_node("DequantizeLinear", ["p", "ys", "yz"], ["v"]),
    ]
    q = all_bytes(np.uint8, (1, 3, 5, 7))
    x = dequantized(q, *FIRST)
    v = dequantized(quantized(x, *LAST, np.uint8), *LAST)
    for nodes, wanted in ([*two, node("Mul", "x", "v")], x * v), ([node("Mul", "x", "factor")], x * weights["factor"]):
        model = nbcnn.load(surrounded(nodes, np.uint8, FIRST, LAST, weights))
        found = model.run(None, {"given": x})[0]
        assert "LookUp" not in operators(model, x)
        np.testing.assert_array_equal(found, dequantized(quantized(wanted, *LAST, np.uint8), *LAST))


def test_a_new_scale_makes_a_new_table() -> None:
    """Scales are weights, which a caller may change."""
    nodes, function = FUNCTIONS["relu"]
    model = nbcnn.load(surrounded(nodes, np.uint8, FIRST, LAST))
    x = dequantized(all_bytes(np.uint8, (2, 3, 8, 8)), *FIRST)
    model.run(None, {"given": x})
    model.parameters["ys"].value = np.array(0.05, np.float32)
    wanted = dequantized(quantized(function(x), 0.05, LAST[1], np.uint8), 0.05, LAST[1])
    np.testing.assert_array_equal(model.run(None, {"given": x})[0], wanted)
