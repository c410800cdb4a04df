"""Operators on bits, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import Case
from onnx import TensorProto, helper

from nbcnn import load
from nbcnn.errors import ModelError

RNG = np.random.default_rng(10)
RULES: dict[str, Callable[..., np.ndarray]] = {
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
}


@pytest.mark.parametrize("fed", [True, False])
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize("op", RULES)
def test_bitwise(op: str, kind: Any, fed: bool) -> None:
    limits = np.iinfo(kind)
    a, b = (RNG.integers(limits.min, limits.max, shape, kind, endpoint=True) for shape in ((2, 3, 4), (3, 1)))
    (y,) = Case(op, [a, b], weights=() if fed else (0, 1), opset=18).run()
    np.testing.assert_array_equal(y, RULES[op](a, b))
    assert y.dtype == kind
    np.testing.assert_array_equal(Case("BitwiseNot", [a], opset=18).run()[0], ~a)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_shifts(kind: Any) -> None:
    a, b = np.array([[1, 128, 255]], kind), np.array([[1], [7]], kind)
    np.testing.assert_array_equal(Case("BitShift", [a, b], {"direction": "LEFT"}).run()[0], a << b)
    np.testing.assert_array_equal(Case("BitShift", [a, b], {"direction": "RIGHT"}).run()[0], a >> b)


def test_wrong_nodes_are_errors() -> None:
    x = np.array([1, 2], np.uint8)
    with pytest.raises(ModelError, match="BitShift 'node': direction None"):
        Case("BitShift", [x, x]).run()
    with pytest.raises(ModelError, match="BitwiseOr 'node': takes integers of one type, not float32"):
        Case("BitwiseNot".replace("Not", "Or"), [np.ones(2, np.float32)] * 2).run()
    with pytest.raises(ModelError, match="BitCast 'node': uint8 and float32 are not of the same width"):
        Case("BitCast", [x], {"to": TensorProto.FLOAT}, opset=26).run()


@pytest.mark.parametrize(
    ("source", "to"), [("FLOAT", "INT32"), ("FLOAT16", "INT16"), ("BFLOAT16", "UINT16"), ("INT8", "FLOAT8E5M2")]
)
def test_bits_are_those_of_the_type_in_the_file(source: str, to: str) -> None:
    """Also where the engine holds the numbers in float32."""
    numbers = [TensorProto.DataType.Value(name) for name in (source, to)]
    kinds = [np.dtype(helper.tensor_dtype_to_np_dtype(number)) for number in numbers]
    ports = [helper.make_tensor_value_info(n, k, [4]) for n, k in zip("xy", numbers, strict=True)]
    graph = helper.make_graph([helper.make_node("BitCast", ["x"], ["y"], to=numbers[1])], "bits", ports[:1], ports[1:])
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 26)], ir_version=11))
    x = np.array([1, 2, -3, 5]).astype(kinds[0])
    (y,) = model.run(None, {"x": x})
    assert y.dtype == kinds[1]
    assert y.tobytes() == x.tobytes()
