"""What lies inside of branches whose condition is known."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from nbcnn import load


def test_a_shape_that_is_computed_inside_of_a_branch() -> None:
    """It rests on values that are fed, so it is computed first, and with it nothing behind it in the branch."""
    nodes = [
        helper.make_node("Split", ["size"], ["n", "other"], num_outputs=2),
        helper.make_node("Concat", ["n", "three"], ["shape"], axis=0),
        helper.make_node("Expand", ["x", "shape"], ["larger"]),
    ]
    larger = helper.make_tensor_value_info("larger", TensorProto.FLOAT, ["N", 3])
    branch = helper.make_graph(nodes, "branch", [], [larger])
    ports = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3]),
        helper.make_tensor_value_info("size", TensorProto.INT64, [2]),
    ]
    constants = {"three": np.array([3]), "yes": np.array(True)}
    graph = helper.make_graph(
        [helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)],
        "branches",
        ports,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))
    x = np.arange(3, dtype=np.float32).reshape(1, 3)
    for rows in (2, 5):
        (y,) = model.run(None, {"x": x, "size": np.array([rows, 7])})
        np.testing.assert_array_equal(y, np.repeat(x, rows, 0))
