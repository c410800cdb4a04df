"""Convolutions of a few planes with a lane for each pixel, against the oracle and between guard bands."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from guards import run_guarded

from nbcnn.graph import Graph, Node, Value
from nbcnn.kernels.cpu.lane_tiling import MORE_ROWS
from nbcnn.kernels.cpu.tiling import panel_width
from nbcnn.model import Model
from nbcnn.passes import lanes

# batch, x shape behind it, w shape, pooling window (None: none)
CASES = {
    "lenet": (1, (1, 28, 28), (6, 1, 5, 5), (2, 2)),
    "wide": (2, (1, 7, 75), (5, 1, 3, 2), None),
    "three planes": (3, (3, 9, 11), (9, 3, 3, 3), (2, 3)),
    "a window wider than tall": (1, (2, 8, 40), (1, 2, 1, 4), (1, 5)),
    "one pixel": (1, (4, 2, 3), (3, 4, 2, 3), None),
    "odd rest": (2, (1, 10, 10), (7, 1, 4, 4), (3, 3)),
}


def network(x: tuple[int, ...], w: tuple[int, ...], pool: tuple[int, int] | None, relu: bool) -> Graph:
    rng = np.random.default_rng(1)
    graph = Graph(opset={"": 17}, inputs=[Value("x", np.dtype(np.float32), ("N", *x))])
    graph.initializers = {"w": rng.standard_normal(w).astype(np.float32)}
    graph.nodes = [Node("Conv", ["x", "w"], ["y"])]
    if relu:
        graph.initializers["b"] = rng.standard_normal(w[0]).astype(np.float32)
        graph.nodes = [Node("Conv", ["x", "w", "b"], ["c"]), Node("Relu", ["c"], ["y"])]
    if pool:
        graph.nodes[-1].outputs = ["p"]
        graph.nodes.append(Node("MaxPool", ["p"], ["y"], {"kernel_shape": list(pool), "strides": list(pool)}))
    graph.outputs = [Value("y", np.dtype(np.float32), None)]
    return graph


def expected(graph: Graph, x: np.ndarray, pool: tuple[int, int] | None) -> np.ndarray:
    y = reference.conv(x, graph.initializers["w"], graph.initializers.get("b"))
    if "b" in graph.initializers:
        y = np.maximum(y, 0)
    return y if pool is None else reference.max_pool(y, list(pool), strides=list(pool))


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_against_the_oracle(name: str, dtype: str, relu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_leaves_lanes", lambda *_: True)  # whatever the width of a register
    batch, x_shape, w_shape, pool = CASES[name]
    graph = network(x_shape, w_shape, pool, relu)
    x = np.random.default_rng(2).standard_normal((batch, *x_shape)).astype(np.float32)
    model = Model(graph, dtype)
    want = expected(graph, x, pool)
    np.testing.assert_allclose(model(x), want, rtol=0, atol=2e-5 * max(1, np.abs(want).max()))
    ops = [node.op for node in model.plan({"x": x}).graph.nodes]
    fits = panel_width(w_shape[0], np.dtype(dtype).itemsize) >= MORE_ROWS
    if dtype == "float32" and fits:
        assert "PlanesConv" in ops and "MaxPool" not in ops
        plan = model.plan({"x": x})
        plan.array("x")[...] = x
        for value, array in run_guarded(plan).items():
            np.testing.assert_allclose(array, want, rtol=0, atol=2e-5 * np.abs(want).max(), err_msg=value)


def test_nan_reaches_its_windows_and_no_others() -> None:
    graph = network((1, 12, 12), (4, 1, 3, 3), (2, 2), relu=True)
    x = np.random.default_rng(3).standard_normal((1, 1, 12, 12)).astype(np.float32)
    x[0, 0, 5, 6] = np.nan
    y = Model(graph)(x)
    touched = np.zeros((5, 5), bool)
    touched[1:3, 2:4] = True  # convolution outputs 3..5 by 4..6
    assert (np.isnan(y) == touched).all()


@pytest.mark.parametrize(
    "attrs", [{"pads": [1, 1, 1, 1]}, {"strides": [2, 2]}, {"dilations": [2, 2]}, {"group": 2}], ids=str
)
def test_other_convolutions_are_left_alone(attrs: dict[str, object]) -> None:
    graph = network((2, 9, 9), (2, 2 // (2 if "group" in attrs else 1), 3, 3), None, relu=False)
    graph.nodes[0].attrs = attrs
    x = np.random.default_rng(4).standard_normal((1, 2, 9, 9)).astype(np.float32)
    model = Model(graph)
    assert "PlanesConv" not in [node.op for node in model.plan({"x": x}).graph.nodes]
    want = reference.conv(x, graph.initializers["w"], None, **attrs)
    np.testing.assert_allclose(model(x), want, rtol=0, atol=1e-5)
