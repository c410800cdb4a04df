"""The engine as a backend of ONNX: what its suite does not try."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nbcnn.errors import NbcnnError
from nbcnn.onnx_io import backend

X = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)


def relu() -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", ports[:1], ports[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("inputs", [[X], {"x": X}, X])
def test_inputs_by_order_by_name_and_alone(inputs: object) -> None:
    (y,) = backend.run_model(relu(), inputs)
    np.testing.assert_array_equal(y, np.maximum(X, 0))
    (y,) = backend.prepare(relu(), "CPU").run(inputs)
    np.testing.assert_array_equal(y, np.maximum(X, 0))


def test_a_node() -> None:
    node = helper.make_node("Concat", ["a", "b"], ["c"], axis=1)
    (c,) = backend.run_node(node, [X, X + 1])
    np.testing.assert_array_equal(c, np.concatenate([X, X + 1], 1))
    (c,) = backend.run_node(node, [X, X + 1], outputs_info=[(np.float32, (2, 6))])
    assert c.shape == (2, 6)


def test_devices() -> None:
    assert backend.supports_device("CPU")
    assert not backend.supports_device("CUDA")
    with pytest.raises(ValueError, match="CUDA"):
        backend.prepare(relu(), "CUDA")


def test_what_is_not_supported_is_named() -> None:
    node = helper.make_node("Det", ["a"], ["b"], name="determinant")
    with pytest.raises(NbcnnError, match="determinant"):
        backend.run_node(node, [np.eye(3, dtype=np.float32)])
