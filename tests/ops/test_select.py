"""Operators whose outputs' shapes depend on the data, against onnxruntime, in networks that compute these data."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import nbcnn

RNG = np.random.default_rng(29)


def both(tmp_path, nodes: list, feeds: dict, outputs: dict, opset: int = 17) -> list[tuple[np.ndarray, np.ndarray]]:
    """The outputs of nbcnn and of onnxruntime."""
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}
    inputs = [helper.make_tensor_value_info(n, kinds[a.dtype], a.shape) for n, a in feeds.items()]
    results = [
        helper.make_tensor_value_info(n, kind, [f"{n}{k}" for k in range(rank)]) for n, (kind, rank) in outputs.items()
    ]
    graph = helper.make_graph(nodes, "g", inputs, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    network = nbcnn.load(path)
    return list(zip(network.run(None, feeds), session.run(None, feeds), strict=True))


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4, 5), (7,), (0, 3)])
def test_nonzero_of_something_computed(tmp_path, shape: tuple[int, ...]) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("NonZero", ["r"], ["y"]),
        helper.make_node("Transpose", ["y"], ["t"]),
        helper.make_node("GatherND", ["r", "t"], ["z"]),
    ]
    x = RNG.standard_normal(shape).astype(np.float32)
    for mine, theirs in both(tmp_path, nodes, {"x": x}, {"y": (TensorProto.INT64, 2), "z": (TensorProto.FLOAT, 1)}):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("sorted_", [0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_unique(tmp_path, axis: int | None, sorted_: int) -> None:
    attrs = {"sorted": sorted_} | ({} if axis is None else {"axis": axis})
    names = ["y", "first", "inverse", "counts"]
    kinds = dict.fromkeys(names, (TensorProto.INT64, 1)) | {"y": (TensorProto.FLOAT, 1 if axis is None else 2)}
    x = RNG.integers(0, 3, (6, 2)).astype(np.float32)
    for mine, theirs in both(tmp_path, [helper.make_node("Unique", ["x"], names, **attrs)], {"x": x}, kinds):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("centered", [0, 1])
@pytest.mark.parametrize("limit", [1, 4, 50])
def test_non_max_suppression(tmp_path, limit: int, centered: int) -> None:
    boxes = RNG.random((2, 40, 4)).astype(np.float32)
    scores = RNG.random((2, 3, 40)).astype(np.float32)
    constants = {
        "limit": np.array([limit]),
        "overlap": np.array([0.3], np.float32),
        "least": np.array([0.2], np.float32),
    }
    nodes = [
        *(helper.make_node("Constant", [], [n], value=onnx.numpy_helper.from_array(a)) for n, a in constants.items()),
        helper.make_node("Abs", ["boxes"], ["b"]),
        helper.make_node("NonMaxSuppression", ["b", "scores", *constants], ["y"], center_point_box=centered),
    ]
    ((mine, theirs),) = both(tmp_path, nodes, {"boxes": boxes, "scores": scores}, {"y": (TensorProto.INT64, 2)})
    np.testing.assert_array_equal(mine, theirs)
    assert len(mine) > 4
