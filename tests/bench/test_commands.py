"""Whole benchmarks at their smallest, so that they still run when they are needed. Speeds are not looked at."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from networks import real

from bench.__main__ import main


def report(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "models.json"
    assert main(["models", "--nets", "lenet", "--batches", "1", "3", "--quick", "--out", str(out)]) == 0
    found = report(out)
    assert [(row["network"], row["batch"]) for row in found["rows"]] == [("lenet", 1), ("lenet", 3)]
    assert all(set(row["timings"]) == {"nbcnn", "onnxruntime"} and row["ratio"] > 0 for row in found["rows"])
    assert found["benchmark"] == "models" and found["machine"]["cpu"]
    assert "onnxruntime ms" in capsys.readouterr().out


def test_quantized(tmp_path: Path) -> None:
    real("models/resnet20-cifar10/resnet20_cifar10.onnx")
    out = tmp_path / "quantized.json"
    assert main(["quantized", "--nets", "resnet20", "--quick", "--threads", "1", "--out", str(out)]) == 0
    (row,) = report(out)["rows"]
    assert set(row["timings"]) == {"nbcnn int8", "nbcnn float32", "onnxruntime int8"} and row["steps"] <= 1.01


def test_training(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    out = tmp_path / "training.json"
    assert main(["training", "--nets", "lenet", "--batch", "4", "--quick", "--out", str(out)]) == 0
    (row,) = report(out)["rows"]
    assert set(row["timings"]) == {"nbcnn", "torch", "torch channels_last"}


def test_kernels(tmp_path: Path) -> None:
    out = tmp_path / "kernels.json"
    assert main(["kernels", "--nets", "lenet", "--batches", "2", "--quick", "--out", str(out)]) == 0
    rows = report(out)["rows"]
    assert [row["layer"] for row in rows] == ["1x28x28 -> 6, 5x5", "6x12x12 -> 16, 5x5"]
    assert all(row["weight gradient"]["gflops"] > 0 for row in rows)


def test_bandwidth(tmp_path: Path) -> None:
    out = tmp_path / "bandwidth.json"
    assert main(["bandwidth", "--only", "BatchNorm", "--quick", "--out", str(out)]) == 0
    rows = report(out)["rows"]
    assert [row["operator"] for row in rows] == ["BatchNorm, Relu", "BatchNorm sums", "BatchNorm gradient"]
    assert all(row["gbytes"] > 0 for row in rows)


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_memory(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    out = tmp_path / "memory.json"
    nets = ["--nets", "lenet", "--train", "lenet", "--batch", "3"]
    assert main(["memory", *nets, "--processes", "1", "--threads", "1", "--out", str(out)]) == 0
    inference, training = report(out)["rows"]
    assert set(inference["measurements"]) == {"nbcnn", "onnxruntime"} and training["peer"].startswith("PyTorch")
    sides = [one for row in (inference, training) for (one,) in row["measurements"].values()]
    assert all(one["peak"] >= one["load_peak"] >= 0 for one in sides)


def test_overhead(tmp_path: Path) -> None:
    out = tmp_path / "overhead.json"
    options = ["--nets", "lenet", "--together", "lenet", "--span", "0.1", "--quick"]
    assert main(["overhead", *options, "--threads", "1", "--out", str(out)]) == 0
    python, ours, theirs = report(out)["rows"]
    assert python["kernels"] >= 5 and python["python_ms"] > 0
    assert (ours["side"], theirs["side"]) == ("nbcnn", "onnxruntime") and len(ours["of_two"]) == 2


def test_results_say_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results.json"
    assert main(["results", "--data", str(tmp_path), "--out", str(out)]) == 1
    assert "mnist-8" in capsys.readouterr().err
    assert not any(row["ok"] for row in report(out)["rows"])


def test_without_data(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no such folder"):
        main(["mnist", "--data", str(tmp_path / "none")])
