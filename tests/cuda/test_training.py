"""The optimizers that ONNX defines, on a GPU, against onnx's reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from nbcnn.devices import find_device
from nbcnn.kernels import opcodes

DOMAIN = "ai.onnx.preview.training"
ADAM = {"norm_coefficient": 0.01, "norm_coefficient_post": 0.02, "alpha": 0.8, "beta": 0.95, "epsilon": 1e-3}
MOMENTUM = {"norm_coefficient": 0.01, "alpha": 0.9, "beta": 0.7}
CASES: list[tuple[str, int, int, dict[str, Any]]] = [
    ("Adam", 2, opcodes.ADAM, ADAM),
    ("Adagrad", 1, opcodes.ADAGRAD, {"norm_coefficient": 0.01, "decay_factor": 0.1, "epsilon": 1e-3}),
    ("Momentum", 1, opcodes.MOMENTUM, MOMENTUM | {"mode": "standard"}),
    ("Momentum", 1, opcodes.NESTEROV, MOMENTUM | {"mode": "nesterov"}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize(("op", "states", "code", "attrs"), CASES)
def test_steps(op: str, states: int, code: int, attrs: dict[str, Any], steps: int, dtype: Any) -> None:
    from nbcnn.kernels.cuda.training import training_step

    names = ["x", "g", "v", "h"][: states + 2]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    results = [f"{name}_new" for name in names if name != "g"]
    inputs = [helper.make_tensor_value_info("r", kind, []), helper.make_tensor_value_info("t", TensorProto.INT64, [])]
    inputs += [helper.make_tensor_value_info(name, kind, [83]) for name in names]
    outputs = [helper.make_tensor_value_info(name, kind, [83]) for name in results]
    node = helper.make_node(op, ["r", "t", *names], results, domain=DOMAIN, **attrs)
    graph = helper.make_graph([node], "step", inputs, outputs)
    opsets = [helper.make_opsetid(DOMAIN, 1), helper.make_opsetid("", 20)]
    tensors = dict(zip(names, abs(np.random.default_rng(9).standard_normal((4, 83))).astype(dtype), strict=False))
    feeds = {"r": np.array(0.1, dtype), "t": np.array(steps, np.int64)} | tensors
    wanted = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets)).run(None, feeds)

    gpu = find_device("cuda")
    given = [gpu.put(tensors.get(name, np.zeros(0, dtype)).copy()) for name in "xgvh"]
    made = [gpu.put(np.zeros(83 * (k <= states), dtype)) for k in range(3)]
    settings = (*(value for value in attrs.values() if not isinstance(value, str)), 0.0, 0.0, 0.0)[:5]
    training_step(code, *(gpu.put(feeds[name].reshape(1)) for name in "rt"), *given, *made, settings)
    tolerance = 1e-5 if dtype is np.float32 else 1e-7  # the evaluator reads attributes as float32
    for memory, want in zip(made, wanted, strict=False):
        np.testing.assert_allclose(gpu.read(memory), want, rtol=tolerance, atol=tolerance)
