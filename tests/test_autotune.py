"""Algorithms chosen by timing: what is measured, kept and found again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nbcnn import autotune
from nbcnn.autotune import FILE, Tuner
from nbcnn.graph import Graph, Node, Value
from nbcnn.model import Model


def network(channels: int = 24) -> Graph:
    rng = np.random.default_rng(0)
    graph = Graph(opset={"": 17})
    graph.initializers["w"] = (rng.standard_normal((channels, channels, 3, 3)) / 15).astype(np.float32)
    graph.inputs = [Value("x", np.dtype(np.float32), (1, channels, 9, 9))]
    graph.outputs = [Value("y")]
    graph.nodes = [Node("Conv", ["x", "w"], ["y"], {"pads": [1, 1, 1, 1]}, name="conv")]
    return graph


def choose(tuner: Tuner, channels: int = 24) -> str:
    """What a model with this tuner computes its one convolution by."""
    model = Model(network(channels))
    model.chooser = lambda: tuner  # type: ignore[method-assign]
    plan = model.plan({"x": np.zeros((1, channels, 9, 9), np.float32)})
    return next(node.attrs["algorithm"] for node in plan.nodes if node.op == "Conv")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds that each algorithm is said to take; what was timed is counted under "calls"."""
    times = {"implicit-gemm": 3.0, "winograd2": 1.0, "winograd4": 2.0, "calls": 0.0}

    def seconds(node: Node, graph: Graph, algorithm: str) -> float:
        times["calls"] += 1
        return times[algorithm]

    monkeypatch.setattr(autotune, "seconds", seconds)
    return times


def test_the_fastest_is_chosen_and_remembered(tmp_path: Path, clock: dict[str, float]) -> None:
    assert choose(Tuner(2, tmp_path, "here")) == "winograd2"
    assert clock["calls"] == 3
    clock["winograd2"] = 9.0
    assert choose(Tuner(2, tmp_path, "here")) == "winograd2"
    assert clock["calls"] == 3  # known
    assert choose(Tuner(2, tmp_path, "elsewhere")) == "winograd4"
    assert choose(Tuner(2, tmp_path, "here"), channels=32) == "winograd4"
    assert sorted(json.loads((tmp_path / FILE).read_text())) == ["elsewhere", "here"]


@pytest.mark.parametrize("content", ["", "[1]", "no JSON"])
def test_a_damaged_file_counts_as_empty(tmp_path: Path, clock: dict[str, float], content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert choose(Tuner(2, tmp_path, "here")) == "winograd2"
    assert json.loads((tmp_path / FILE).read_text())["here"]


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path: Path, clock: dict[str, float]) -> None:
    (tmp_path / "file").write_text("")
    assert choose(Tuner(2, tmp_path / "file" / "folder", "here")) == "winograd2"


def test_real_timings_are_taken_of_every_direction(tmp_path: Path) -> None:
    tuner = Tuner(2, tmp_path, "here")
    graph = network()
    for value in (*graph.inputs, Value("y", np.dtype(np.float32), (1, 24, 9, 9))):
        graph.values[value.name] = value
        value.layout = "last"
    graph.values["w"] = Value("w", np.dtype(np.float32), (24, 24, 3, 3))
    attrs = {"group": 1, "strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "depthwise": False}
    for op, inputs, output in (
        ("Conv", ["x", "w"], "y"),
        ("ConvInputGrad", ["y", "w"], "x"),
        ("ConvWeightGrad", ["x", "y"], "w"),
    ):
        assert tuner(Node(op, inputs, [output], attrs), graph, ("implicit-gemm", "winograd2", "winograd4"))
    assert len(tuner.known) == 3
    assert all(0 < time < 10 for timings in tuner.known.values() for time in timings.values())
