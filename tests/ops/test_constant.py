"""Constants, and shape arithmetic that is folded away before anything runs, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from harness import Case
from onnx import TensorProto, helper, numpy_helper

from nbcnn.api import load
from nbcnn.errors import ModelError

rng = np.random.default_rng(12)


def run_constant(attrs: dict[str, Any]) -> np.ndarray:
    return Case("Constant", [], attrs).run()[0]


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({"value": np.array([[1, 2]], np.int32)}, np.array([[1, 2]], np.int32)),
        ({"value": np.array(2.5, np.float32)}, np.array(2.5, np.float32)),
        ({"sparse_value": np.array([0, 3, 0], np.float32)}, np.array([0, 3, 0], np.float32)),
        ({"value_int": 7}, np.array(7, np.int64)),
        ({"value_ints": [7, -1]}, np.array([7, -1], np.int64)),
        ({"value_float": 0.5}, np.array(0.5, np.float32)),
        ({"value_floats": [0.5, 2.0]}, np.array([0.5, 2.0], np.float32)),
    ],
)
def test_constant(attrs: dict[str, Any], expected: np.ndarray) -> None:
    found = run_constant(attrs)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_constant_without_a_value() -> None:
    with pytest.raises(ModelError, match="exactly one of the attributes value, "):
        run_constant({})


def test_constant_of_shape() -> None:
    (y,) = Case("ConstantOfShape", [np.array([2, 3])], {"value": np.array([5], np.int32)}, weights=(0,)).run()
    np.testing.assert_array_equal(y, np.full((2, 3), 5, np.int32))
    (y,) = Case("ConstantOfShape", [np.array([], np.int64)], weights=(0,)).run()
    assert y.shape == () and y.dtype == np.float32 and y == 0
    with pytest.raises(ModelError, match="cannot make a tensor of shape"):
        Case("ConstantOfShape", [np.array([-1])], weights=(0,)).run()


@pytest.mark.parametrize(
    ("start", "limit", "delta", "dtype"),
    [(1, 9, 3, np.int64), (5, -2, -2, np.int32), (3, 1, 1, np.int64), (0.5, 2.1, 0.25, np.float32)],
)
def test_range(start: float, limit: float, delta: float, dtype: Any) -> None:
    (y,) = Case("Range", [np.array(v, dtype) for v in (start, limit, delta)], weights=(0, 1, 2)).run()
    assert y.dtype == dtype
    np.testing.assert_allclose(y, np.arange(start, limit, delta, dtype), rtol=1e-6)


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [({}, [2, 3, 5, 7]), ({"start": 1}, [3, 5, 7]), ({"start": -2, "end": -1}, [5]), ({"end": 99}, [2, 3, 5, 7])],
)
def test_shape_and_size(attrs: dict[str, int], expected: list[int]) -> None:
    x = np.zeros((2, 3, 5, 7), np.float32)
    np.testing.assert_array_equal(Case("Shape", [x], attrs).run()[0], expected)
    np.testing.assert_array_equal(Case("Size", [x]).run()[0], 210)


def make(nodes: list[Any], constants: dict[str, np.ndarray], opset: int = 17) -> Any:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "m"])
    stored = [numpy_helper.from_array(a, k) for k, a in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(op: str, inputs: str, output: str, **attrs: Any) -> Any:
    return helper.make_node(op, inputs.split(), [output], **attrs)


def arithmetic_on_shapes() -> Any:
    """What exporters write: a flattening by computed sizes, a padding put together, a resizing to twice the size."""
    nodes = [
        node("Shape", "x", "s"),
        node("Slice", "s two four zeros", "hw"),
        node("Cast", "hw", "hw_float", to=TensorProto.FLOAT),
        node("Constant", "", "factor", value_float=2.0),
        node("Mul", "hw_float factor", "larger"),
        node("Floor", "larger", "floored"),
        node("Cast", "floored", "sizes", to=TensorProto.INT64),
        node("Slice", "s zeros two", "nc"),
        node("Concat", "nc sizes", "all", axis=0),
        helper.make_node("Resize", ["x", "", "", "all"], ["up"], mode="nearest", nearest_mode="floor",
                         coordinate_transformation_mode="asymmetric"),
        node("ConstantOfShape", "four", "no_pads", value=numpy_helper.from_array(np.array([0]))),
        node("Concat", "pad_pairs no_pads", "pads", axis=0),
        node("Reshape", "pads pairs", "pad_table"),
        node("Slice", "pad_table back far zeros back", "reversed"),
        node("Transpose", "reversed", "turned", perm=[1, 0]),
        node("Reshape", "turned flat", "pad_list"),
        node("Pad", "up pad_list", "padded"),
        node("Equal", "s s", "same"),
        node("Where", "same s s", "s_again"),
        node("Gather", "s_again zero", "n"),
        node("Unsqueeze", "n zeros", "n1"),
        node("Concat", "n1 flat", "target", axis=0),
        node("Reshape", "padded target", "y"),
    ]  # fmt: skip
    constants = {
        "zero": np.array(0),
        "zeros": np.array([0]),
        "two": np.array([2]),
        "four": np.array([4]),
        "flat": np.array([-1]),
        "pairs": np.array([-1, 2]),
        "pad_pairs": np.array([1, 2, 0, 3]),
        "back": np.array([-1]),
        "far": np.array([-(2**63) + 1]),
    }
    return make(nodes, constants)


def test_shape_arithmetic_is_folded_as_onnxruntime_computes_it() -> None:
    model = arithmetic_on_shapes()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ours = load(model)
    for shape in ((2, 3, 4, 5), (1, 3, 7, 2)):
        x = rng.normal(size=shape).astype(np.float32)
        (expected,) = session.run(None, {"x": x})
        np.testing.assert_array_equal(ours(x), expected)
        left = {n.op for n in ours.plan({"x": x}).graph.nodes}
        assert left == {"Resize", "Pad", "Reshape", "ToLayout"}


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("ConstantOfShape", [np.array([2**20, 2**20])]),
        ("Range", [np.array(0), np.array(2**62), np.array(1)]),
        ("Range", [np.array(v, np.float32) for v in (0, 1e30, 1e-3)]),
    ],
)
def test_enormous_constants_are_refused(op: str, inputs: list[np.ndarray]) -> None:
    with pytest.raises(ModelError, match=f"{op} 'node': makes .* 1024 MiB are allowed"):
        Case(op, list(inputs), weights=tuple(range(len(inputs)))).run()


def test_range_of_large_integers_is_exact() -> None:
    (y,) = Case("Range", [np.array(v) for v in (2**62, 2**62 + 5, 2)], weights=(0, 1, 2)).run()
    np.testing.assert_array_equal(y, [2**62, 2**62 + 2, 2**62 + 4])


@pytest.mark.parametrize(("k", "dtype"), [(0, None), (1, 6), (-2, 9), (9, 11)])
def test_eye_like(k: int, dtype: int | None) -> None:
    attrs = {"k": k} if dtype is None else {"k": k, "dtype": dtype}
    (y,) = Case("EyeLike", [np.ones((3, 4), np.int8)], attrs).run()
    kinds = {None: np.int8, 6: np.int32, 9: np.bool_, 11: np.float32}  # computed in float32
    np.testing.assert_array_equal(y, np.eye(3, 4, k, kinds[dtype]))
    assert y.dtype == kinds[dtype]
