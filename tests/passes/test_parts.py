"""Which convolutions write into a concatenation, and that results stay those of onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from guards import run_guarded
from harness import Forced
from networks import assert_close, onnxruntime_run, proto
from onnx import helper

import nbcnn

RNG = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))


ARRAYS = {
    "one": weights(40, 6, 1, 1),
    "few": weights(3, 6, 1, 1),
    "three": weights(35, 6, 3, 3),
    "groups": weights(6, 3, 1, 1),
    "each": weights(6, 1, 3, 3),
    "bias": weights(40, 1)[:, 0],
}
PADS = {"pads": [1, 1, 1, 1]}
node = helper.make_node
ONE, FEW = node("Conv", ["x", "one", "bias"], ["a"]), node("Conv", ["x", "few"], ["b"])
THREE = node("Conv", ["x", "three"], ["c"], **PADS)
JOIN = node("Concat", ["a", "b", "c"], ["y"], axis=1)

# nodes, outputs, values that are written into their places
CASES: dict[str, tuple[list[onnx.NodeProto], list[str], list[str]]] = {
    "all": ([ONE, FEW, THREE, JOIN], ["y"], ["a", "b", "c"]),
    "with activations": (
        [
            *(ONE, node("Relu", ["a"], ["r"]), THREE, node("Relu", ["c"], ["s"])),
            *(node("Concat", ["s", "r"], ["t"], axis=-3), node("Relu", ["t"], ["y"])),
        ],
        ["y"],
        ["r", "s"],
    ),
    "some are copied": (
        [FEW, THREE, node("MaxPool", ["x"], ["p"], kernel_shape=[1, 1]),
         node("Concat", ["x", "b", "p", "c"], ["y"], axis=1)],
        ["y"],
        ["b", "c"],
    ),
    "an output": ([ONE, FEW, THREE, JOIN], ["y", "b"], ["a", "c"]),
    "read again": ([ONE, FEW, THREE, JOIN, node("Relu", ["c"], ["z"])], ["y", "z"], ["a", "b"]),
    "twice": ([ONE, FEW, node("Concat", ["b", "a", "b"], ["y"], axis=1)], ["y"], ["a"]),
    "other axes": ([FEW, node("Concat", ["b", "b"], ["y"], axis=2)], ["y"], []),
    "groups": (
        [FEW, node("Conv", ["x", "groups"], ["g"], group=2), node("Conv", ["x", "each"], ["e"], group=6, **PADS),
         node("Concat", ["g", "b", "e"], ["y"], axis=1)],
        ["y"],
        ["b"],
    ),
    "a residual": (
        [FEW, ONE, node("Conv", ["x", "one"], ["d"]), node("Add", ["a", "d"], ["s"]),
         node("Concat", ["s", "b"], ["y"], axis=1)],
        ["y"],
        ["b"],
    ),
    "one in the other": (
        [ONE, FEW, THREE, node("Concat", ["a", "b"], ["i"], axis=1), node("Concat", ["c", "i"], ["y"], axis=1)],
        ["y"],
        ["a", "b", "c"],
    ),
}  # fmt: skip
SHAPES = {"pictures": (2, 6, 11, 9), "one pixel": (1, 6, 1, 1), "large": (1, 6, 57, 40)}


def results(name: str, shape: tuple[int, ...], algorithm: str, dtype: type) -> nbcnn.Model:
    """Run a case beside onnxruntime (in float32: it has no convolution of float64); returns our model."""
    nodes, outputs, _ = CASES[name]
    used = {n for item in nodes for n in item.input}
    arrays = {k: v.astype(np.float32) for k, v in ARRAYS.items() if k in used}
    file = proto(nodes, {"x": list(shape)}, {key: ["N", "C", "H", "W"] for key in outputs}, arrays)
    x = RNG.standard_normal(shape).astype(np.float32)
    wanted = onnxruntime_run(file, {"x": x})
    model = nbcnn.load(file, dtype=np.dtype(dtype).name)
    model.chooser = lambda: Forced(algorithm)  # type: ignore[method-assign]
    for _ in range(2):  # the second run finds what the first one left
        for ours, theirs in zip(model.run(None, {"x": x}), wanted, strict=True):
            assert_close(ours, theirs, 1e-4)
    return model


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", CASES)
def test_parts_and_results(name: str, shape: tuple[int, ...]) -> None:
    values = results(name, shape, "implicit-gemm", np.float32).plan({"x": np.zeros(shape, np.float32)}).graph.values
    assert sorted(v.name for v in values.values() if v.part) == sorted(CASES[name][2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("algorithm", ["implicit-gemm", "winograd2", "winograd4"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_algorithms(shape: tuple[int, ...], algorithm: str, dtype: type) -> None:
    results("with activations", shape, algorithm, dtype)


@pytest.mark.parametrize("algorithm", ["implicit-gemm", "winograd2", "winograd4"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_nothing_else_is_touched(shape: tuple[int, ...], algorithm: str) -> None:
    plan = results("all", shape, algorithm, np.float32).plan({"x": np.ones(shape, np.float32)})
    assert all(np.isfinite(y).all() for y in run_guarded(plan).values())


def test_nothing_is_left_to_copy() -> None:
    nodes, *_ = CASES["all"]
    arrays = {k: ARRAYS[k].astype(np.float32) for k in ("one", "few", "three", "bias")}
    file = proto(nodes, {"x": [1, 6, 9, 9]}, {"y": [1, 78, 9, 9]}, arrays)
    plan = nbcnn.load(file).plan({"x": np.zeros((1, 6, 9, 9), np.float32)})
    assert "Concat" not in [n.op for n in plan.nodes]


def test_lines_and_volumes() -> None:
    for rank in (1, 3):
        w = weights(20, 6, *(3,) * rank).astype(np.float32)
        pads = {"pads": [1] * 2 * rank}
        nodes = [node("Conv", ["x", "w"], ["a"], **pads), node("Conv", ["x", "w"], ["b"], **pads)]
        nodes += [node("Relu", ["b"], ["c"]), node("Concat", ["a", "c"], ["y"], axis=1)]
        shape = (2, 6, *(7,) * rank)
        file = proto(nodes, {"x": list(shape)}, {"y": [2, 40, *(7,) * rank]}, {"w": w})
        x = RNG.standard_normal(shape).astype(np.float32)
        model = nbcnn.load(file)
        assert_close(model.run(None, {"x": x})[0], onnxruntime_run(file, {"x": x})[0], 1e-4)
        values = model.plan({"x": x}).graph.values
        assert {v.name for v in values.values() if v.part} == {"a", "c"}
