"""What a message about a node says: file, node, operator, opset, inputs with types and shapes, and what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import proto
from onnx import helper

import nbcnn
from nbcnn.errors import ModelError, NbcnnError, UnsupportedError


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
