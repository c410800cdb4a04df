"""What a message about a node says: file, node, operator, opset, inputs with types and shapes, and what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from harness import Case
from networks import proto
from onnx import helper

import nbcnn
from nbcnn.errors import ModelError, NbcnnError, UnsupportedError, brief


def fails(path: Path, nodes: list[onnx.NodeProto], shape: list[int], **arrays: Any) -> str:
    """The message of a network from x to y, which is read from m.onnx."""
    arrays = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    path = path / "m.onnx"
    path.write_bytes(proto(nodes, {"x": shape}, {"y": ["N"]}, arrays).SerializeToString())
    with pytest.raises(NbcnnError) as info:
        nbcnn.load(path).run(None, {"x": np.zeros(shape, np.float32)})
    assert "\n" not in str(info.value)
    return str(info.value)


def test_shapes_that_do_not_fit(tmp_path: Path) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], "first")
    line = fails(tmp_path, [conv], [1, 3, 8, 8], w=np.zeros((4, 5, 3, 3)))
    assert line.startswith(f"{tmp_path / 'm.onnx'}: Conv 'first': ")
    assert line.endswith("(opset 17, inputs x float32 [1, 3, 8, 8], w float32 [4, 5, 3, 3])")


def test_numbers_beyond_reading(tmp_path: Path) -> None:
    message = fails(tmp_path, [helper.make_node("Resize", ["x", "", "s"], ["y"])], [1, 2, 4, 4], s=np.arange(300) / 2)
    assert "scales [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, ...] (300 in all), sizes none or roi none do not fit" in message
    assert (brief(None), brief([1, 2]), brief(np.array([0.25]))) == ("none", "[1, 2]", "[0.25]")


def test_attributes_of_the_wrong_kind(tmp_path: Path) -> None:
    node = helper.make_node("Concat", ["x", "x"], ["y"], "join", axis=7)
    assert "Concat 'join'" in fails(tmp_path, [node], [2, 3])
    node = helper.make_node("Transpose", ["x"], ["y"], "turn", perm=[0, 5])
    assert "opset 17, inputs x float32 [2, 3]" in fails(tmp_path, [node], [2, 3])


def test_more_memory_than_there_is(tmp_path: Path) -> None:
    node = helper.make_node("Tile", ["x", "r"], ["y"], "tile")
    model = proto([node], {"x": [4]}, {"y": ["N"]}, {})
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2**50]), "r"))
    with pytest.raises(ModelError, match=r"the network needs .* GiB"):
        nbcnn.load(model).run(None, {"x": np.zeros(4, np.float32)})


def test_an_error_is_told_where_it_happened_once() -> None:
    error = UnsupportedError("Foo 'a' cannot")
    assert str(error) == "Foo 'a' cannot"
    error.within("m.onnx", "opset 9").within("other.onnx", "opset 10")
    assert str(error) == "m.onnx: Foo 'a' cannot (opset 9)"


@pytest.mark.parametrize(
    ("op", "shapes", "attrs"),
    [
        ("Conv", [(1, 2, 5, 5), (3, 2, 3, 3)], {}),
        ("ConvTranspose", [(1, 2, 5, 5), (2, 3, 3, 3)], {}),
        ("BatchNormalization", [(1, 2, 5, 5), (2,), (2,), (2,), (2,)], {}),
        ("LRN", [(1, 2, 5, 5)], {"size": 3}),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_])
def test_integers_where_floats_belong(
    op: str, shapes: list[tuple[int, ...]], attrs: dict[str, Any], dtype: Any
) -> None:
    case = Case(op, [np.ones(shape, dtype) for shape in shapes], attrs)
    with pytest.raises(UnsupportedError, match=f"{op} takes floats, but input 'i0' holds {np.dtype(dtype)}"):
        case.run()


@pytest.mark.parametrize(
    ("op", "shapes", "odd"),
    [("Gemm", [(3, 6), (6, 4), (3, 4)], 1), ("MatMul", [(2, 3, 6), (2, 6, 4)], 0), ("Concat", [(2, 3), (2, 3)], 1)],
)
def test_types_that_differ(op: str, shapes: list[tuple[int, ...]], odd: int) -> None:
    """Kernels take it that they do not, and would read beyond the smaller one's end."""
    arrays: list[Any] = [np.ones(shape, np.int64 if k == odd else np.float32) for k, shape in enumerate(shapes)]
    with pytest.raises(ModelError, match=r"its inputs have the types \['float32', 'int64'\]"):
        Case(op, arrays, {"axis": 0} if op == "Concat" else {}).run()


def test_a_shape_that_is_none() -> None:
    case = Case("ConstantOfShape", [np.ones((2, 3), np.int64)], weights=(0,))
    with pytest.raises(ModelError, match="cannot make a tensor of shape that is not a list of numbers"):
        case.run()


def test_pools_beyond_measure() -> None:
    case = Case(
        "AveragePool", [np.ones((1, 1, 5, 5), np.float32)], {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2**31 - 1]}
    )
    with pytest.raises(ModelError, match="windows along an axis, and not"):
        case.run()


def test_a_zero_point_that_is_no_integer() -> None:
    one, zero = np.ones(1, np.float32), np.zeros(1, np.int8)
    inputs = [np.ones((2, 4), np.int8), one, zero, np.ones((4, 3), np.int8), one, zero, one, one]
    with pytest.raises(ModelError, match="zero point of the result must be"):
        Case("QLinearMatMul", inputs, opset=21, weights=(1, 2, 4, 5, 6, 7)).run()
