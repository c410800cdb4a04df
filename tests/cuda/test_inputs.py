"""Arrays that lie on the GPU already are taken from there."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest

from nbcnn.errors import InputError
from nbcnn.graph import Graph, Node, Value
from nbcnn.model import Model


@pytest.fixture
def model() -> Model:
    graph = Graph(opset={"": 17})
    graph.inputs = [Value("x", np.dtype(np.float32), ("N", 3, 4))]
    graph.outputs = [Value("y", np.dtype(np.float32), None)]
    graph.nodes = [Node("Transpose", ["x"], ["y"], {"perm": (0, 2, 1)}, name="turn")]
    return Model(graph, device="cuda")


def test_from_the_gpu(model: Model) -> None:
    from nbcnn.kernels.cuda import runtime

    for n in (1, 2, 2):
        x = np.random.default_rng(n).standard_normal((n, 3, 4)).astype(np.float32)
        np.testing.assert_array_equal(model(runtime.upload(x)), x.transpose(0, 2, 1))
        np.testing.assert_array_equal(model(x), x.transpose(0, 2, 1))


def test_of_another_type(model: Model) -> None:
    from nbcnn.kernels.cuda import runtime

    with pytest.raises(InputError, match="input 'x' on the GPU must be float32 and contiguous, not float64"):
        model(runtime.upload(np.zeros((1, 3, 4))))
    with pytest.raises(InputError, match=r"takes shape \['N', 3, 4\]"):
        model(runtime.upload(np.zeros((1, 4, 3), np.float32)))


def test_a_model_on_the_processor_says_so(model: Model) -> None:
    theirs = SimpleNamespace(
        __cuda_array_interface__={"shape": (1, 3, 4), "typestr": "<f4", "data": (0, False), "version": 3}
    )
    with pytest.raises(InputError, match="input 'x' lies in a GPU's memory: load the network with device='cuda'"):
        Model(model.graph).run(None, {"x": theirs})


def test_settings_go_along_with_a_copy(model: Model) -> None:
    assert copy.deepcopy(model).device.name == "cuda"
    assert model.rename({"x": "pixels"}).device.name == "cuda"
