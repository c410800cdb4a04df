"""`nbcnn bench --device cuda`: the report of a network on a GPU."""

from __future__ import annotations

from pathlib import Path

from networks import tiny

from nbcnn.devices import find_device
from nbcnn.onnx_io import write_model
from nbcnn.report.html.network import network_page
from nbcnn.report.machine import heading
from nbcnn.report.network import Request, measure_network


def test_a_report(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    write_model(tiny(), path)
    report, _ = measure_network(Request(path, 1, seconds=0.01, batch=1, device=find_device("cuda")))
    assert report["settings"]["device"] == "cuda"
    assert report["machine"]["fma_gflops"]["1"] > 0 and report["machine"]["triad_gbytes"]["1"] > 0
    assert "GPU: " in heading(report["machine"])
    inference = report["inference"]
    assert inference["peer"] == "onnxruntime" and inference["differences"][0]["deviations"] < 1e-2
    assert {row["op"] for row in inference["layers"]} >= {"Conv", "MaxPool", "Gemm"}
    assert "GPU" in network_page(report)
