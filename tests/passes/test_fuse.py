"""What is merged into the node before it, what must not be, and that results stay those of onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from networks import assert_close, onnxruntime_run, proto
from onnx import helper

import nbcnn
from nbcnn.plan import weight_only

RNG = np.random.default_rng(0)
SHAPE: list[int | str] = ["N", 4, 5, 6]
ARRAYS = {
    "w": RNG.standard_normal((4, 4, 3, 3)).astype(np.float32),
    "w1": RNG.standard_normal((4, 1, 3, 3)).astype(np.float32),
    "w2": RNG.standard_normal((4, 4, 1, 1)).astype(np.float32),
    "b": RNG.standard_normal(4).astype(np.float32),
    "scale": RNG.uniform(0.5, 2, 4).astype(np.float32),
    "shift": RNG.standard_normal(4).astype(np.float32),
    "mean": RNG.standard_normal(4).astype(np.float32),
    "var": RNG.uniform(0.5, 2, 4).astype(np.float32),
    "low": np.array(-0.5, np.float32),
    "high": np.array(0.7, np.float32),
    "channel": RNG.standard_normal((4, 1, 1)).astype(np.float32),
    "line": RNG.standard_normal((5, 1)).astype(np.float32),
}
NORM = ["scale", "shift", "mean", "var"]
PADS = {"pads": [1, 1, 1, 1]}
node = helper.make_node

# name: nodes, outputs, operators that are left (conversions of layout and work on weights alone aside)
CASES: dict[str, tuple[list[onnx.NodeProto], list[str], list[str]]] = {
    "batch norm": (
        [node("Conv", ["x", "w", "b"], ["c"], **PADS), node("BatchNormalization", ["c", *NORM], ["y"])],
        ["y"],
        ["Conv"],
    ),
    "batch norm without bias": (
        [node("Conv", ["x", "w"], ["c"], **PADS), node("BatchNormalization", ["c", *NORM], ["y"], epsilon=0.1)],
        ["y"],
        ["Conv"],
    ),
    "batch norm of what others read too": (
        [
            node("Conv", ["x", "w"], ["c"], **PADS),
            node("BatchNormalization", ["c", *NORM], ["n"]),
            node("Mul", ["c", "n"], ["y"]),
        ],
        ["y"],
        ["Conv", "BatchNormalization", "Mul"],
    ),
    "batch norm of an output": (
        [node("Conv", ["x", "w"], ["c"], **PADS), node("BatchNormalization", ["c", *NORM], ["y"])],
        ["c", "y"],
        ["Conv", "BatchNormalization"],
    ),
    "factors and shifts behind a batch norm": (
        [
            node("Conv", ["x", "w"], ["c"], **PADS),
            node("BatchNormalization", ["c", *NORM], ["n"]),
            node("Mul", ["channel", "n"], ["m"]),
            node("Add", ["m", "channel"], ["a"]),
            node("Relu", ["a"], ["y"]),
        ],
        ["y"],
        ["Conv"],
    ),
    "a quotient and a difference behind a batch norm": (
        [
            node("BatchNormalization", ["x", *NORM], ["n"]),
            node("Div", ["n", "channel"], ["d"]),
            node("Sub", ["d", "low"], ["y"]),
        ],
        ["y"],
        ["BatchNormalization"],
    ),
    "what does not repeat along the channels of a batch norm": (
        [node("BatchNormalization", ["x", *NORM], ["n"]), node("Mul", ["n", "line"], ["y"])],
        ["y"],
        ["BatchNormalization", "Mul"],
    ),
    "a batch norm that is subtracted from a constant": (
        [node("BatchNormalization", ["x", *NORM], ["n"]), node("Sub", ["channel", "n"], ["y"])],
        ["y"],
        ["BatchNormalization", "Sub"],
    ),
    "residual, then activation": (
        [node("Conv", ["x", "w"], ["c"], **PADS), node("Add", ["x", "c"], ["a"]), node("Relu", ["a"], ["y"])],
        ["y"],
        ["Conv"],
    ),
    "residual of a depthwise convolution": (
        [
            node("Conv", ["x", "w1", "b"], ["c"], group=4, **PADS),
            node("Add", ["c", "x"], ["a"]),
            node("Clip", ["a", "low", "high"], ["y"]),
        ],
        ["y"],
        ["Conv"],
    ),
    "activation, then residual": (
        [node("Conv", ["x", "w"], ["c"], **PADS), node("Relu", ["c"], ["r"]), node("Add", ["r", "x"], ["y"])],
        ["y"],
        ["Conv", "Add"],
    ),
    "two branches": (
        [
            node("Conv", ["x", "w"], ["c"], **PADS),
            node("Conv", ["x", "w2"], ["d"]),
            node("Add", ["c", "d"], ["a"]),
            node("Clip", ["a", "low", "high"], ["y"]),
        ],
        ["y"],
        ["Conv", "Conv"],
    ),
    "a residual that is computed later": (
        [
            node("Conv", ["x", "w"], ["c"], **PADS),
            node("Tanh", ["x"], ["t"]),
            node("Add", ["c", "t"], ["y"]),
        ],
        ["y"],
        ["Tanh", "Conv"],
    ),
    "a sum with itself": (
        [node("Conv", ["x", "w"], ["c"], **PADS), node("Add", ["c", "c"], ["y"])],
        ["y"],
        ["Conv", "Add"],
    ),
    "a sum by channel is a bias": (
        [node("Conv", ["x", "w"], ["c"], **PADS), node("Add", ["c", "channel"], ["a"]), node("Relu", ["a"], ["y"])],
        ["y"],
        ["Conv"],
    ),
    "one activation after another": (
        [
            node("Conv", ["x", "w"], ["c"], **PADS),
            node("Relu", ["c"], ["r"]),
            node("Clip", ["r", "low", "high"], ["y"]),
        ],
        ["y"],
        ["Conv", "Clip"],
    ),
    "an activation that is read twice": (
        [node("Conv", ["x", "w"], ["c"], **PADS), node("Relu", ["c"], ["r"]), node("Mul", ["r", "r"], ["y"])],
        ["y"],
        ["Conv", "Mul"],
    ),
    "what is activated is read elsewhere": (
        [node("Conv", ["x", "w"], ["c"], **PADS), node("Relu", ["c"], ["r"]), node("Mul", ["r", "c"], ["y"])],
        ["y"],
        ["Conv", "Chain"],
    ),
}
CONVERSIONS = ("ToLayout", "Reshape")


@pytest.mark.parametrize("name", CASES)
def test_rules(name: str) -> None:
    nodes, outputs, left = CASES[name]
    arrays = {k: a for k, a in ARRAYS.items() if any(k in n.input for n in nodes)}
    source = proto(nodes, {"x": SHAPE}, dict.fromkeys(outputs, SHAPE), arrays)
    model = nbcnn.load(source)
    feeds = {"x": RNG.standard_normal((2, 4, 5, 6)).astype(np.float32)}
    for got, want in zip(model.run(None, feeds), onnxruntime_run(source, feeds), strict=True):
        assert_close(got, want, 2e-6 * max(1.0, float(np.abs(want).max())))
    graph = model.plan(feeds).graph
    prepared = weight_only(graph, model.parameters)
    found = [n.op for n in graph.nodes if id(n) not in prepared and n.op not in CONVERSIONS]
    assert sorted(found) == sorted(left), found


def test_a_folded_batch_norm_follows_its_weights() -> None:
    """Also after the plan was made."""
    nodes, outputs, _ = CASES["batch norm"]
    arrays = {k: a for k, a in ARRAYS.items() if any(k in n.input for n in nodes)}
    model = nbcnn.load(proto(nodes, {"x": SHAPE}, dict.fromkeys(outputs, SHAPE), arrays))
    x = RNG.standard_normal((2, 4, 5, 6)).astype(np.float32)
    model(x)
    for name, array in list(arrays.items()):
        arrays[name] = (array * 1.25).astype(np.float32)
        model.parameters[name].value = arrays[name]
        changed = proto(nodes, {"x": SHAPE}, dict.fromkeys(outputs, SHAPE), arrays)
        assert_close(model(x), onnxruntime_run(changed, {"x": x})[0], 5e-5)
