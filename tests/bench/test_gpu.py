"""The benchmark of a GPU: its tables, its budget of time, and, in Numba's simulator, all of it on tiny arrays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.gpu import add_shares
from bench.gpu_sections import Item, results
from bench.gpu_tables import section_table
from bench.gpu_timing import GpuSide, compare, deviation
from nbcnn.report.agreement import Disagreement
from nbcnn.report.timing import Plan

ROOT = Path(__file__).resolve().parents[2]


def fail() -> dict[str, Any]:
    raise ValueError("no such thing\nand more about it")


def lose() -> dict[str, Any]:
    raise RuntimeError("[700] Call to cuMemcpy results in CUDA_ERROR_ILLEGAL_ADDRESS")


def test_one_failure_leaves_the_others() -> None:
    first, second = results([Item("a", fail), Item("b", lambda: {"rate": 2.0})], end=1.0, clock=lambda: 0.0)
    assert first["error"] == "ValueError: no such thing" and "fail" in first["traceback"]
    assert second["rate"] == 2.0 and second["name"] == "b"


def test_what_has_no_time_is_said() -> None:
    now = iter([0.0, 2.0])
    found = list(results([Item("a", dict), Item("b", dict)], end=1.0, clock=lambda: next(now)))
    assert "left_out" not in found[0] and "no time" in found[1]["left_out"]


def test_nothing_is_run_on_a_gpu_that_is_lost() -> None:
    found = list(results([Item("a", lose), Item("b", fail)], end=1.0, clock=lambda: 0.0))
    assert "ILLEGAL_ADDRESS" in found[0]["error"]
    assert found[1] == {"name": "b", "left_out": "the GPU cannot be used any more after a"}


def test_blocks_alternate_after_untimed_calls() -> None:
    log: list[str] = []

    def side(name: str, seconds: float) -> GpuSide:
        def spans(calls: int) -> list[float]:
            log.append(f"{name}{calls}")
            return [seconds] * calls

        return GpuSide(name, spans)

    found = compare([side("a", 0.1), side("b", 0.2)], Plan(blocks=2, seconds=1.0))
    assert log == ["a3", "b3", *["a1", "a10", "b1", "b5"] * 2]
    assert found.ratio("b", "a") == pytest.approx(2)


def test_deviation_is_of_the_norm() -> None:
    theirs = np.array([3.0, 4.0], np.float32)
    assert deviation("x", theirs + np.float32(0.005), theirs, 1e-2) == pytest.approx(0.005 * 2**0.5 / 5, rel=1e-3)
    for wrong in (theirs * 1.02, np.array([3, np.nan], np.float32), theirs[:1]):
        with pytest.raises(Disagreement, match="x: "):
            deviation("x", wrong, theirs, 1e-2)


def compared(ratio: float, gflops: float) -> dict[str, Any]:
    timings = {name: {"median_ms": ms} for name, ms in (("nbcnn", 2.0), ("torch", 2.0 * ratio))}
    row = {"timings": timings, "peer": "torch", "ratio": ratio, "ratio_blocks": [ratio, ratio], "gflops": gflops}
    return row | {"difference": 1e-5}


def a_report() -> dict[str, Any]:
    network = {"name": "n", "network": "n", "batch": 1, "precision": "tf32", "images": 500.0, "run_ms": 3.0}
    directions = dict.fromkeys(("forward", "input gradient", "weight gradient"))
    layer = {"name": "l", "layer": "l<1>", "count": 2, "batch": 64, "gflop": 1.0, "bytes": 8}
    moved = {"bytes": 8e8, "median_ms": 0.5, "gbytes": 1600.0, "difference": 0.0}
    ceiling = {"unit": "TFLOP/s", "how": "a loop", "data_sheet": None}
    sections = {
        "ceilings": [
            {"name": "copy", "ceiling": "copy", "rate": 2000.0, "unit": "GB/s", "how": "a copy", "data_sheet": 3352.0},
            {"name": "tf32", "ceiling": "tf32", "rate": 400.0, **ceiling},
            {"name": "fp32", "ceiling": "fp32", "rate": 50.0, **ceiling},
            {"name": "fp16", "ceiling": "fp16", "rate": 800.0, **ceiling},
        ],
        "inference": [{**network, **compared(0.5, 1e5)}, {"name": "vgg", "error": "E: why"}],
        "training": [{"name": "late", "left_out": "no time"}],
        "layers": [
            {**layer, "precision": how, **{direction: compared(0.8, 25e3) for direction in directions}}
            for how in ("fp32", "fp16")
        ],
        "bandwidth": [
            {"name": f"Relu, {how}", "operator": "Relu", "precision": how, **moved} for how in ("fp32", "bf16")
        ],
    }
    machine = json.loads((ROOT / "bench" / "reports" / "models.json").read_text(encoding="utf-8"))["machine"]
    gpu = {"name": "A GPU", "compute_capability": [9, 0], "multiprocessors": 132, "memory_bytes": 8 << 30}
    return {"benchmark": "gpu", "machine": machine, "gpu": gpu, "settings": {}, "sections": sections}


def test_shares_are_of_the_measured_ceilings() -> None:
    report = a_report()
    add_shares(report)
    sections = report["sections"]
    assert sections["inference"][0]["share"] == 0.25
    assert sections["layers"][0]["forward"]["share"] == 0.5
    assert sections["layers"][1]["forward"]["share"] == 25 / 800
    assert sections["bandwidth"][0]["share"] == 0.8


def test_tables_have_every_row() -> None:
    report = a_report()
    add_shares(report)
    text = {name: section_table(name, rows) for name, rows in report["sections"].items()}
    assert "vgg: error: E: why" in text["inference"] and "late: left out: no time" in text["training"]
    assert text["layers"].count("gradient") == 4 and "0.500" in text["layers"]
    assert "bf16" in text["bandwidth"]


def test_without_a_gpu_it_is_one_line() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "NBCNN_CUDA"}
    command = [sys.executable, "-m", "bench", "gpu", "--minutes", "0.01"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("python -m bench gpu: device 'cuda' cannot be used")


@pytest.mark.parametrize(
    ("section", "precision"),
    [("ceilings", "fp32"), ("layers", "fp32"), ("layers", "fp16"), ("bandwidth", "fp32"), ("bandwidth", "bf16")],
)
def test_in_the_simulator(section: str, precision: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: it is the other side")
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "bench", "gpu", "--only", section, "--precision", precision, "--quick"]
    done = subprocess.run(
        [*command, "--out", str(out)],
        cwd=ROOT,
        env=os.environ | {"NBCNN_CUDA": "simulator"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert json.loads(out.read_text(encoding="utf-8"))["sections"][section]
    assert out.with_suffix(".html").is_file()


def test_page(tmp_path: Path) -> None:
    from bench.pages import write_page

    report = a_report()
    add_shares(report)
    path = write_page(tmp_path / "gpu.json", report)
    assert path is not None
    page = path.read_text(encoding="utf-8")
    for picture in page.split("<svg")[1:]:
        ET.fromstring("<svg" + picture.partition("</svg>")[0] + "</svg>")
    assert "0.50×" in page and "l&lt;1&gt;" in page and "vgg: error: E: why" in page and "late: left out" in page
