"""Convolutions with a lane for each picture that multiply less (Toom and Cook), against the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from guards import run_guarded

from nbcnn.graph import Graph, Node, Value
from nbcnn.kernels.cpu.lane_tiling import MORE_ROWS, pictures
from nbcnn.kernels.cpu.tiling import panel_width
from nbcnn.model import Model
from nbcnn.passes import lanes
from nbcnn.trainer import Trainer

# x shape behind the pictures, w shape, pads, pooling window (None: none)
CASES = {
    "lenet, first": ((1, 28, 28), (6, 1, 5, 5), (0, 0, 0, 0), (2, 2)),
    "lenet, second": ((6, 12, 12), (16, 6, 5, 5), (0, 0, 0, 0), (2, 2)),
    "padded": ((4, 7, 9), (9, 4, 3, 3), (1, 2, 1, 0), None),
    "one column": ((5, 6, 3), (3, 5, 2, 3), (0, 0, 1, 0), None),
    "wide kernel, uneven pool": ((4, 9, 17), (7, 4, 1, 6), (0, 1, 0, 2), (3, 2)),
    "beyond its padding": ((4, 2, 2), (5, 4, 4, 4), (3, 3, 3, 3), None),
    "a line": ((6, 23), (4, 6, 4), (1, 2), None),
    "many channels": ((17, 5, 6), (20, 17, 3, 3), (1, 1, 1, 1), (1, 2)),
}
BOUND = {"float32": 3e-5, "float64": 1e-13}
"""Largest error over the standard deviation of the output; F(6, 3) has 2.3e-5 in float32."""


def network(name: str, relu: bool) -> tuple[Graph, np.ndarray]:
    shape, w, pads, pool = CASES[name]
    rng = np.random.default_rng(len(name))
    graph = Graph(opset={"": 17}, inputs=[Value("x", np.dtype(np.float64), ("N", *shape))])
    graph.initializers = {"w": rng.standard_normal(w), "b": rng.standard_normal(w[0])}
    graph.nodes = [Node("Conv", ["x", "w", "b"], ["c"], {"pads": list(pads)})]
    if relu:
        graph.nodes.append(Node("Relu", ["c"], ["r"]))
    if pool:
        window = {"kernel_shape": list(pool), "strides": list(pool)}
        graph.nodes.append(Node("MaxPool", [graph.nodes[-1].outputs[0]], ["p"], window))
    graph.outputs = [Value(graph.nodes[-1].outputs[0], np.dtype(np.float64), None)]
    return graph, rng.standard_normal((4 * pictures(4) - 3, *shape))


def expected(name: str, graph: Graph, x: np.ndarray, relu: bool) -> np.ndarray:
    _, _, pads, pool = CASES[name]
    y = reference.conv(x, graph.initializers["w"], graph.initializers["b"], pads=list(pads))
    y = np.maximum(y, 0) if relu else y
    return y if pool is None else reference.max_pool(y, list(pool), strides=list(pool))


def algorithms(model: Model, x: np.ndarray) -> list[str]:
    return [node.attrs["algorithm"] for node in model.plan({"x": x}).graph.nodes if node.op == "BatchConv"]


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_errors_are_bounded(name: str, dtype: str, relu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if panel_width(1, np.dtype(dtype).itemsize) < MORE_ROWS:
        pytest.skip("registers are too short to give each picture a lane")
    monkeypatch.setattr(lanes, "_leaves_lanes", lambda *_: True)  # whatever the width of a register
    monkeypatch.setattr(lanes, "LEAST_WORK", 0)
    graph, x = network(name, relu)
    model = Model(graph, dtype)
    want = expected(name, graph, x, relu)
    (got,) = model.run(None, {"x": x})
    assert np.abs(got - want).max() <= BOUND[dtype] * want.std()
    assert algorithms(model, x) == ["batch-lanes-toom"]
    if dtype == "float32":
        plan = model.plan({"x": x})
        plan.array("x")[...] = x
        for array in run_guarded(plan).values():
            assert np.abs(array - want).max() <= BOUND[dtype] * want.std()


def test_exact_models_and_few_pictures_do_without() -> None:
    graph, x = network("padded", True)
    assert algorithms(Model(graph, exact=True), x) == ["batch-lanes"]
    assert algorithms(Model(graph), x[: pictures(4)]) == ["batch-lanes"]
    assert algorithms(Model(graph), x[:1]) == []


def test_nan_stays_in_its_picture() -> None:
    graph, x = network("padded", True)
    x[5, 1, 3, 4] = np.nan
    y = Model(graph)(x)
    assert np.isnan(y[5]).any()
    assert np.isfinite(np.delete(y, 5, 0)).all()


def test_training_takes_it_forward() -> None:
    graph, x = network("padded", True)
    graph.nodes += [Node("GlobalAveragePool", ["r"], ["g"]), Node("Flatten", ["g"], ["y"])]
    graph.outputs = [Value("y", np.dtype(np.float64), ("N", 9))]
    t = np.zeros((len(x), 9), np.float32)
    fast, exact = Model(graph), Model(graph, exact=True)
    losses = [Trainer(model, "squared_error").step(x.astype(np.float32), t) for model in (fast, exact)]
    want = (reference.conv(x, graph.initializers["w"], graph.initializers["b"], pads=[1, 2, 1, 0]).clip(0)).mean((2, 3))
    np.testing.assert_allclose(losses, (want**2).mean(), rtol=1e-5)
    for name in ("w", "b"):
        np.testing.assert_allclose(fast.parameters[name].value, exact.parameters[name].value, rtol=0, atol=1e-6)
