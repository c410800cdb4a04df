"""The optimizers that ONNX defines, against onnx's reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from nbcnn.errors import ModelError
from nbcnn.onnx_io.backend import Backend

DOMAIN = "ai.onnx.preview.training"
SHAPES = [(3, 17), (20001,), ()]
CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("Adam", 2, {"norm_coefficient": 0.01, "norm_coefficient_post": 0.02, "alpha": 0.8, "beta": 0.95, "epsilon": 1e-3}),
    ("Adam", 2, {}),
    ("Adagrad", 1, {"norm_coefficient": 0.01, "decay_factor": 0.1, "epsilon": 1e-3}),
    ("Momentum", 1, {"norm_coefficient": 0.01, "alpha": 0.9, "beta": 0.7, "mode": "standard"}),
    ("Momentum", 1, {"norm_coefficient": 0.01, "alpha": 0.9, "beta": 0.7, "mode": "nesterov"}),
]


def model(op: str, states: int, shapes: list[tuple[int, ...]], attrs: dict[str, Any], kind: int) -> onnx.ModelProto:
    """A network of one optimizer, for tensors of these shapes."""
    groups = ["x", "g", "v", "h"][: states + 2]
    tensors = [(f"{group}{k}", shape) for group in groups for k, shape in enumerate(shapes)]
    made = [(f"{group}_new{k}", shape) for group in groups if group != "g" for k, shape in enumerate(shapes)]
    names, results = [name for name, _ in tensors], [name for name, _ in made]
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, shape in tensors]
    inputs[:0] = [
        helper.make_tensor_value_info("r", kind, []),
        helper.make_tensor_value_info("t", TensorProto.INT64, []),
    ]
    outputs = [helper.make_tensor_value_info(name, kind, shape) for name, shape in made]
    node = helper.make_node(op, ["r", "t", *names], results, domain=DOMAIN, **attrs)
    graph = helper.make_graph([node], "step", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(DOMAIN, 1), helper.make_opsetid("", 20)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize(("op", "states", "attrs"), CASES)
def test_against_the_reference_evaluator(op: str, states: int, attrs: dict[str, Any], steps: int, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    shapes = SHAPES if dtype == np.float32 else SHAPES[:1]  # the evaluator turns several tensors into float32
    proto = model(op, states, shapes, attrs, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    tensors = [np.abs(rng.standard_normal(shape)).astype(dtype) for _ in range(states + 2) for shape in shapes]
    inputs = [np.array(0.1, dtype), np.array(steps, np.int64), *tensors]
    wanted = ReferenceEvaluator(proto).run(None, dict(zip([v.name for v in proto.graph.input], inputs, strict=True)))
    found = Backend.run_model(proto, inputs)
    tolerance = 1e-5 if dtype == np.float32 else 1e-7  # the evaluator reads attributes as float32
    for y, value in zip(found, wanted, strict=True):
        assert y.shape == np.shape(value)
        np.testing.assert_allclose(y, value, rtol=tolerance, atol=tolerance)


def test_what_is_refused() -> None:
    proto = model("Adagrad", 1, [(2,)], {}, TensorProto.FLOAT)
    inputs = [np.array(0.1, np.float32), np.array(0), *np.ones((3, 2), np.float32)]
    del proto.graph.node[0].input[-1]
    with pytest.raises(ModelError, match=r"Adagrad.*4 inputs"):
        Backend.run_model(proto, inputs)
