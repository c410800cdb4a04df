"""Convolutions with a lane for each picture, against the oracle: values, gradients, chains, and who takes part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from guards import run_guarded
from harness import Case

from nbcnn.graph import Graph, Node, Value
from nbcnn.kernels.cpu.lane_tiling import MORE_ROWS, pictures
from nbcnn.kernels.cpu.tiling import panel_width
from nbcnn.lower import lower_for_inference
from nbcnn.model import Model
from nbcnn.passes import lanes
from nbcnn.trainer import Trainer

# x shape behind the pictures, w shape, attributes
LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "first": ((1, 9, 8), (6, 1, 5, 5), {}),
    "few": ((6, 7, 6), (9, 6, 5, 5), {"pads": [2, 1, 0, 2]}),
    "one pixel": ((3, 1, 1), (1, 3, 1, 1), {}),
    "strided": ((2, 7, 9), (5, 2, 3, 3), {"strides": [2, 3], "pads": [1, 1, 1, 1]}),
    "beyond its padding": ((2, 2, 3), (4, 2, 3, 3), {"pads": [3, 3, 3, 3]}),
    "wide": ((17, 4, 4), (7, 17, 3, 3), {"pads": [1, 1, 1, 1]}),
    "back": ((5, 4, 5), (11, 5, 2, 3), {"strides": [1, 2]}),
    "line": ((3, 11), (4, 3, 4), {"strides": [2], "pads": [1, 2]}),
    "volume": ((2, 3, 4, 5), (3, 2, 2, 3, 3), {"pads": [1, 0, 1, 0, 1, 1], "strides": [1, 2, 1]}),
}


def tolerance(dtype: type, want: np.ndarray) -> float:
    return (2e-5 if dtype is np.float32 else 1e-11) * max(1.0, float(np.abs(want).max()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_convolution(name: str, dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_leaves_lanes", lambda *_: True)  # whatever the width of a register
    monkeypatch.setattr(lanes, "LEAST_WORK", 0)
    picture, w_shape, attrs = LAYERS[name]
    block = pictures(np.dtype(dtype).itemsize)
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2 * block - 3, *picture)).astype(dtype)
    w, bias = rng.standard_normal(w_shape).astype(dtype), rng.standard_normal(w_shape[0]).astype(dtype)
    want = reference.conv(x, w, bias, **attrs)
    dy = rng.standard_normal(want.shape).astype(dtype)
    case = Case("Conv", [x, w, bias], attrs, weights=(1, 2), dtype=dtype)
    np.testing.assert_allclose(case.run()[0], want, rtol=0, atol=tolerance(dtype, want))
    plan = case.training_plan([dy], (0, 1, 2))
    ops = [node.op for node in plan.graph.nodes]
    if panel_width(1, np.dtype(dtype).itemsize) >= MORE_ROWS:  # else registers are too short
        assert {"BatchConv", "BatchConvInputGrad", "BatchConvWeightGrad"} <= set(ops)
    (y,), found = case.run_training([dy], (0, 1, 2))
    for got, expected in zip((y, *found), (want, *reference.conv_backward(dy, x, w, **attrs)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance(dtype, expected))
    if dtype is np.float32:
        guarded = run_guarded(plan)
        case.execute(plan)
        for value, array in guarded.items():
            np.testing.assert_array_equal(array, plan.array(value), err_msg="in guard bands")


def chain(window: int, stride: int) -> Graph:
    """Convolution, ReLU, pooling, convolution without a bias, clip, average of all pixels."""
    rng = np.random.default_rng(4)
    graph = Graph(opset={"": 17})
    graph.inputs = [Value("x", np.dtype(np.float32), ("N", 3, 11, 10))]
    graph.initializers = {
        "w1": rng.standard_normal((5, 3, 3, 3)).astype(np.float32) / 4,
        "b1": rng.standard_normal(5).astype(np.float32),
        "w2": rng.standard_normal((20, 5, 2, 2)).astype(np.float32) / 4,
        "low": np.array(-0.5, np.float32),
        "high": np.array(0.5, np.float32),
    }
    pool = {"kernel_shape": [window, window], "strides": [stride, stride]}
    graph.nodes = [
        Node("Conv", ["x", "w1", "b1"], ["c1"], {"pads": [1, 1, 1, 1]}),
        Node("Relu", ["c1"], ["r1"]),
        Node("MaxPool", ["r1"], ["p1"], pool),
        Node("Conv", ["p1", "w2"], ["c2"]),
        Node("Clip", ["c2", "low", "high"], ["r2"]),
        Node("GlobalAveragePool", ["r2"], ["g"]),
        Node("Flatten", ["g"], ["y"]),
    ]
    graph.outputs = [Value("y", np.dtype(np.float32), ("N", 20))]
    return graph


def chain_reference(graph: Graph, x: np.ndarray, window: int, stride: int) -> np.ndarray:
    w = graph.initializers
    y = np.maximum(reference.conv(x, w["w1"], w["b1"], pads=[1, 1, 1, 1]), 0)
    y = reference.max_pool(y, [window, window], strides=[stride, stride])
    y = np.clip(reference.conv(y, w["w2"]), -0.5, 0.5)
    return y.mean((2, 3))


@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 3), (3, 2)])
def test_a_chain_of_layers(window: int, stride: int) -> None:
    graph, count = chain(window, stride), 2 * pictures(4) - 2
    x = np.random.default_rng(5).standard_normal((3 * pictures(4) - 7, 3, 11, 10)).astype(np.float32)
    model = Model(graph)
    for batch in (x, x[:count], x[:2]):
        want = chain_reference(graph, batch, window, stride)
        np.testing.assert_allclose(model(batch), want, rtol=0, atol=1e-5)
    ops = [node.op for node in model.plan({"x": x}).graph.nodes]
    assert ops.count("BatchConv") == 2 and ops.count("ToBatch") == ops.count("FromBatch") == 1
    assert ("MaxPool" in ops) is (window != stride), "windows without overlap are taken while the convolution stores"


def test_a_value_that_others_read_too() -> None:
    graph = chain(2, 2)
    graph.nodes[-1:] = [Node("Softmax", ["p1"], ["y"], {"axis": 1})]
    graph.nodes = [n for n in graph.nodes if n.outputs[0] not in ("c2", "r2", "g")]
    graph.outputs = [Value("y", np.dtype(np.float32), ("N", 5, 5, 5)), Value("p1", np.dtype(np.float32), None)]
    x = np.random.default_rng(6).standard_normal((pictures(4), 3, 11, 10)).astype(np.float32)
    y, p1 = Model(graph).run(None, {"x": x})
    w = graph.initializers
    want = reference.max_pool(
        np.maximum(reference.conv(x, w["w1"], w["b1"], pads=[1, 1, 1, 1]), 0), [2, 2], strides=[2, 2]
    )
    np.testing.assert_allclose(p1, want, rtol=0, atol=1e-5)
    np.testing.assert_allclose(y, np.exp(want) / np.exp(want).sum(1, keepdims=True), rtol=0, atol=1e-5)


def test_nan_stays_nan() -> None:
    graph = chain(2, 2)
    x = np.random.default_rng(7).standard_normal((pictures(4), 3, 11, 10)).astype(np.float32)
    x[3, 1, 4, 4] = np.nan
    y = Model(graph)(x)
    assert np.isnan(y[3]).all()
    assert np.isfinite(np.delete(y, 3, 0)).all()


@pytest.mark.parametrize("batch", [1, 2])
def test_training_is_that_of_small_batches(batch: int) -> None:
    """The sum of the gradients of single pictures, which take the other path, is that of all of them."""
    rng, count = np.random.default_rng(8), pictures(4)
    x = rng.standard_normal((count, 3, 11, 10)).astype(np.float32)
    t = rng.standard_normal((count, 20)).astype(np.float32)
    many, few = (Model(chain(2, 2), dtype="float64") for _ in range(2))
    before = {name: p.value for name, p in many.parameters.items()}
    Trainer(many, "squared_error").step(x, t)
    changes = {name: np.zeros_like(value) for name, value in before.items()}
    for i in range(0, count, batch):
        one = Model(few.graph, dtype="float64")
        Trainer(one, "squared_error").step(x[i : i + batch], t[i : i + batch])
        for name, value in before.items():
            changes[name] += (one.parameters[name].value - value) * batch / count
    for name, value in before.items():
        np.testing.assert_allclose(many.parameters[name].value - value, changes[name], rtol=0, atol=1e-9, err_msg=name)


def test_who_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)

    def ops(batch: int, channels: int, attrs: dict[str, Any], depth: int = 4) -> list[str]:
        group = attrs.get("group", 1)
        x = rng.standard_normal((batch, depth, 6, 6)).astype(np.float32)
        w = rng.standard_normal((channels, depth // group, 3, 3)).astype(np.float32)
        case = Case("Conv", [x, w], attrs, weights=(1,))
        feeds = {name: (a.shape, a.dtype) for name, a in case.feeds().items()}
        graph = lower_for_inference(case.graph(), feeds, case.parameters(), np.dtype(np.float32))
        return [node.op for node in graph.nodes]

    block = pictures(4)
    assert "BatchConv" not in ops(block, 1, {}), "too little work for what has to be moved"
    monkeypatch.setattr(lanes, "LEAST_WORK", 3)
    assert "BatchConv" in ops(block, 1, {})
    assert "BatchConv" in ops(4 * block - 1, 1, {})
    assert "BatchConv" not in ops(1, 1, {}), "too few pictures"
    assert "BatchConv" not in ops(block, block, {}), "output channels fill the lanes"
    assert "BatchConv" not in ops(block, 2, {"group": 2})
    assert "BatchConv" not in ops(block, 2, {"dilations": [2, 2]})
    assert "BatchConv" not in ops(block, 2, {}, depth=40), "too many channels"
