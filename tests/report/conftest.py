"""A small network with hostile names, its file, and a report on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from networks import small_resnet

from nbcnn.onnx_io import write_model
from nbcnn.report.network import Request, Tracks, measure_network


@pytest.fixture(scope="session")
def resnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A residual network: (N, 3, 12, 12) -> (N, 5). Its first convolution has a name that must not reach a page as it
    is.
    """
    graph = small_resnet()
    graph.nodes[0].name = """<script>alert("x")</script>&'1"""
    path = tmp_path_factory.mktemp("report") / "small.onnx"
    write_model(graph, path)
    return path


@pytest.fixture(scope="session")
def measured(resnet_file: Path) -> tuple[dict[str, Any], Tracks]:
    """A report in a hurry, with a training step, and the tracks of its trace."""
    return measure_network(Request(resnet_file, threads=1, seconds=0.1, batch=2, train=True))


@pytest.fixture(scope="session")
def report(measured: tuple[dict[str, Any], Tracks]) -> dict[str, Any]:
    return measured[0]
