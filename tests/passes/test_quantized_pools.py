"""Pools between DequantizeLinear and QuantizeLinear, which work on bytes, against the oracle and onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import reference
from guards import run_guarded
from onnx import helper
from quantized_graphs import dequantized, quantized, surrounded, theirs

import nbcnn

RNG = np.random.default_rng(5)
KINDS = [np.uint8, np.int8]
WINDOWS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((1, 1, 1, 1), {"kernel_shape": [1, 1]}),
    ((2, 3, 7, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 17, 8, 6), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((3, 5, 6, 5), {"kernel_shape": [3, 2], "pads": [1, 0, 2, 1]}),
    ((1, 64, 9, 11), {"kernel_shape": [3, 3], "strides": [1, 3], "pads": [0, 2, 1, 2]}),
    ((1, 33, 10, 11), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ((1, 4, 12, 13), {"kernel_shape": [3, 3], "dilations": [2, 3], "pads": [2, 2, 1, 2]}),
    ((1, 130, 4, 40), {"kernel_shape": [1, 7], "strides": [1, 5]}),
    ((2, 6, 13), {"kernel_shape": [4], "strides": [3], "pads": [2, 1]}),
    ((1, 3, 5, 4, 6), {"kernel_shape": [2, 3, 2], "strides": [2, 1, 2], "pads": [1, 1, 0, 0, 1, 0]}),
    ((1, 2, 30, 30), {"kernel_shape": [20, 20], "strides": [5, 5]}),
]
SAME, OTHER = (0.0625, 90), (0.0417, 61)


def setting(kind: type, scale: tuple[float, int]) -> tuple[float, int]:
    return scale[0], scale[1] - (128 if kind == np.int8 else 0)


def inputs(shape: tuple[int, ...], kind: type, first: tuple[float, int]) -> np.ndarray:
    info = np.iinfo(kind)
    return dequantized(RNG.integers(info.min, info.max + 1, shape).astype(kind), *first)


def pool(op: str, attrs: dict[str, Any], y: str = "y") -> onnx.NodeProto:
    return helper.make_node(op, ["x"], [y], **attrs)


def operators(model: nbcnn.Model, x: np.ndarray) -> list[str]:
    return [node.op for node in model.plan({"given": x}).nodes if node.op != "ToLayout"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("last", [SAME, OTHER], ids=["same", "other"])
@pytest.mark.parametrize(("shape", "attrs"), WINDOWS)
def test_max_pool(shape: tuple[int, ...], attrs: dict[str, Any], last: tuple[float, int], kind: type) -> None:
    first, last = setting(kind, SAME), setting(kind, last)
    x = inputs(shape, kind, first)
    network = surrounded([pool("MaxPool", attrs)], kind, first, last, ranks=(x.ndim, x.ndim))
    model = nbcnn.load(network)
    found = model.run(None, {"given": x})[0]
    between = ["MaxPool"] if first == last else ["MaxPool", "LookUp"]
    assert [op for op in operators(model, x) if op != "RequantizeTable"][1:-1] in (between, between[::-1])
    wanted = quantized(reference.max_pool(x, **attrs), *last, kind)
    np.testing.assert_array_equal(found, dequantized(wanted, *last))
    assert np.abs(found - theirs(network, x)).max() <= last[0] * 1.01
    guarded = next(iter(run_guarded(model.plan({"given": x})).values()))
    np.testing.assert_array_equal(guarded.reshape(found.shape), found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("include_pad", [0, 1])
@pytest.mark.parametrize(("shape", "attrs"), WINDOWS)
def test_average_pool(shape: tuple[int, ...], attrs: dict[str, Any], include_pad: int, kind: type) -> None:
    first, last = setting(kind, SAME), setting(kind, OTHER)
    x, attrs = inputs(shape, kind, first), attrs | {"count_include_pad": include_pad}
    network = surrounded([pool("AveragePool", attrs)], kind, first, last, ranks=(x.ndim, x.ndim))
    model = nbcnn.load(network)
    found = model.run(None, {"given": x})[0]
    assert operators(model, x)[1:-1] == ["QuantizedAveragePool" if np.prod(found.shape[2:]) > 1 else "QuantizedMean"]
    exact = reference.average_pool(x.astype(np.float64), **attrs) / np.float32(last[0])
    wanted = dequantized(quantized(exact * np.float32(last[0]), *last, kind), *last)
    sure = np.abs(exact - np.floor(exact) - 0.5) > 1e-4
    np.testing.assert_array_equal(found[sure], wanted[sure])
    assert np.abs(found - wanted).max() <= last[0] * 1.01
    # onnxruntime's kernel knows no dilations, and counts what lies beyond all padding.
    if "dilations" not in attrs and not ("ceil_mode" in attrs and include_pad):
        assert np.abs(found - theirs(network, x)).max() <= last[0] * 1.01
    guarded = next(iter(run_guarded(model.plan({"given": x})).values()))
    np.testing.assert_array_equal(guarded.reshape(found.shape), found)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_a_relu_behind(op: str) -> None:
    attrs = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [pool(op, attrs, "p"), helper.make_node("Relu", ["p"], ["y"])]
    x = inputs((2, 5, 9, 8), np.uint8, SAME)
    model = nbcnn.load(surrounded(nodes, np.uint8, SAME, OTHER))
    found = model.run(None, {"given": x})[0]
    floats = getattr(reference, "max_pool" if op == "MaxPool" else "average_pool")(x, **attrs)
    wanted = dequantized(quantized(np.maximum(floats, 0), *OTHER, np.uint8), *OTHER)
    assert np.abs(found - wanted).max() <= (0 if op == "MaxPool" else OTHER[0] * 1.01)
    assert "DequantizeLinear" not in operators(model, x)[:-1]


def test_between_operators_that_move_bytes() -> None:
    attrs = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("QuantizeLinear", ["t", "xs", "xz"], ["tq"]),
        helper.make_node("DequantizeLinear", ["tq", "xs", "xz"], ["td"]),
        helper.make_node("MaxPool", ["td"], ["p"], **attrs),
        helper.make_node("QuantizeLinear", ["p", "xs", "xz"], ["pq"]),
        helper.make_node("DequantizeLinear", ["pq", "xs", "xz"], ["pd"]),
        helper.make_node("Flatten", ["pd"], ["y"]),
    ]
    x = inputs((2, 5, 8, 6), np.uint8, SAME)
    model = nbcnn.load(surrounded(nodes, np.uint8, SAME, SAME, ranks=(4, 2)))
    wanted = reference.max_pool(x.transpose(0, 1, 3, 2), **attrs).reshape(2, -1)
    np.testing.assert_array_equal(model.run(None, {"given": x})[0], wanted)
    assert operators(model, x).count("DequantizeLinear") == 1


def test_floats_that_others_read() -> None:
    """Floats of a pool that are a result of the network, too."""
    attrs = {"kernel_shape": [2, 2]}
    nodes = [pool("MaxPool", attrs), helper.make_node("Neg", ["y"], ["z"])]
    x = inputs((1, 5, 8, 6), np.uint8, SAME)
    found, y, z = nbcnn.load(surrounded(nodes, np.uint8, SAME, OTHER, outputs=["found", "y", "z"])).run(
        None, {"given": x}
    )
    wanted = reference.max_pool(x, **attrs)
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(z, -wanted)
    np.testing.assert_array_equal(found, dequantized(quantized(wanted, *OTHER, np.uint8), *OTHER))


def test_what_stays_in_floats() -> None:
    """Indices are asked for; a window meets padding alone; a scale is negative, so that larger bytes are smaller."""
    x = inputs((1, 3, 6, 6), np.uint8, SAME)
    attrs: dict[str, Any] = {"kernel_shape": [2, 2]}
    floats = reference.max_pool(x, **attrs)
    wanted = dequantized(quantized(floats, *OTHER, np.uint8), *OTHER)
    indices = helper.make_node("MaxPool", ["x"], ["y", "i"], **attrs)
    cast = helper.make_node("Cast", ["i"], ["f"], to=onnx.TensorProto.FLOAT)
    found, places = nbcnn.load(surrounded([indices, cast], np.uint8, SAME, OTHER, outputs=["found", "f"])).run(
        None, {"given": x}
    )
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(places, reference.max_pool_indices(x, **attrs))
    turned = (-SAME[0], SAME[1])
    model = nbcnn.load(surrounded([pool("MaxPool", attrs)], np.uint8, turned, OTHER))
    np.testing.assert_array_equal(model.run(None, {"given": x})[0].shape, wanted.shape)
    back = dequantized(quantized(x, *turned, np.uint8), *turned)
    wanted = dequantized(quantized(reference.max_pool(back, **attrs), *OTHER, np.uint8), *OTHER)
    np.testing.assert_array_equal(model.run(None, {"given": x})[0], wanted)


@pytest.mark.parametrize("op", ["GlobalMaxPool", "GlobalAveragePool"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 17, 5, 7), (1, 6, 9)], ids=str)
def test_global(shape: tuple[int, ...], op: str) -> None:
    x = inputs(shape, np.uint8, SAME)
    network = surrounded([helper.make_node(op, ["x"], ["y"])], np.uint8, SAME, OTHER, ranks=(x.ndim, x.ndim))
    model = nbcnn.load(network)
    axes = tuple(range(2, x.ndim))
    exact = x.astype(np.float64).max(axes, keepdims=True) if "Max" in op else x.mean(axes, np.float64, keepdims=True)
    found = model.run(None, {"given": x})[0]
    assert np.abs(found - dequantized(quantized(exact, *OTHER, np.uint8), *OTHER)).max() <= OTHER[0] * 1.01
    assert "DequantizeLinear" not in operators(model, x)[:-1]
