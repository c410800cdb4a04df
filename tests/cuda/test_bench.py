"""`nbcnn bench --device cuda`: the report of a network on a GPU, and what it takes shares of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from networks import tiny

from nbcnn.devices import PRECISIONS, find_device
from nbcnn.kernels.cuda import runtime
from nbcnn.kernels.cuda._cuda import TARGET
from nbcnn.onnx_io import write_model
from nbcnn.report import gpu
from nbcnn.report.html.network import network_page
from nbcnn.report.machine import heading
from nbcnn.report.network import Request, measure_network


@pytest.mark.parametrize("precision", PRECISIONS)
def test_ceilings(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the elements that a thread adds up, one of them twice, is a sum of products of halves."""
    made = []
    allocate = runtime.allocate
    monkeypatch.setattr(runtime, "allocate", lambda size: made.append(allocate(size)) or made[-1])
    assert gpu.product_tflops(precision, quick=True) > 0
    if precision in gpu.SHAPES and TARGET == "simulator":
        depth, (rows, columns) = gpu.SHAPES[precision][2], gpu.TILES
        found = runtime.download(made[0]).view(np.float32)
        np.testing.assert_array_equal(found, (4 * rows * columns + 1) * 2 * depth * 0.25)


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_a_report(precision: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    write_model(tiny(), path)
    device = find_device("cuda", precision=precision)
    report, _ = measure_network(Request(path, 1, seconds=0.01, batch=1, device=device))
    assert report["settings"]["device"] == "cuda" and report["settings"]["precision"] == precision
    assert report["machine"]["fma_gflops"]["1"] > 0 and report["machine"]["triad_gbytes"]["1"] > 0
    assert "GPU: " in heading(report["machine"])
    inference = report["inference"]
    assert inference["peer"] == "onnxruntime" and inference["differences"][0]["deviations"] < 1e-2
    assert {row["op"] for row in inference["layers"]} >= {"Conv", "MaxPool", "Gemm"}
    assert "GPU" in network_page(report)
