"""What open dimensions are taken for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from networks import proto
from onnx import helper

import nbcnn
from nbcnn.guesses import CHANNELS, channels
from nbcnn.report.shapes import input_shapes

node = helper.make_node
CONV = node("Conv", ["x", "w"], ["y"])
GROUPS = node("Conv", ["x", "w"], ["y"], group=2)
SCALED = [node("Sub", ["x", "mean"], ["a"]), node("Mul", ["a", "scale"], ["b"]), node("Conv", ["b", "w"], ["y"])]


def network(nodes: list[onnx.NodeProto], taken: int = 1) -> onnx.ModelProto:
    arrays = {
        "w": np.ones((4, taken, 3, 3), np.float32),
        "mean": np.ones(1, np.float32),
        "scale": np.ones(1, np.float32),
    }
    used = {name for item in nodes for name in item.input}
    return proto(nodes, {"x": ["N", "C", "H", "W"]}, {"y": [None] * 4}, {k: v for k, v in arrays.items() if k in used})


@pytest.mark.parametrize(
    ("nodes", "taken", "wanted"),
    [
        ([CONV], 1, 1),
        ([CONV], 5, 5),
        ([GROUPS], 3, 6),
        (SCALED, 1, 1),
        ([node("Relu", ["x"], ["y"])], 1, CHANNELS),
        ([node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2])], 1, CHANNELS),
    ],
)
def test_channels(nodes: list[onnx.NodeProto], taken: int, wanted: int) -> None:
    model = nbcnn.load(network(nodes, taken))
    assert channels(model.graph, "x") == wanted
    assert input_shapes(model.graph) == {"x": (1, wanted, 224, 224)}


def test_a_network_of_grey_pictures_is_changed() -> None:
    model = nbcnn.load(network([CONV]))
    assert model.set_batch(3).inputs[0].shape == (3, "C", "H", "W")
