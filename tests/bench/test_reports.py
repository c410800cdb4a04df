"""What is printed and kept of a run: tables, JSON, the machine, and the refusal to time wrong results."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench.report import table
from nbcnn.report import machine
from nbcnn.report.agreement import Disagreement, agree, agree_scalar
from nbcnn.report.write import write_json


def test_table_aligns_texts_left_and_numbers_right() -> None:
    text = table(("net", "ms", "ok"), [("lenet", 0.0712, True), ("vgg", 1234.5, False), ("x", None, True)])
    assert text.splitlines() == [
        "net       ms  ok",
        "-----  -----  ---",
        "lenet  0.071  yes",
        "vgg     1234  no",
        "x          -  yes",
    ]


def test_table_without_rows() -> None:
    assert table(("a", "b"), []).splitlines() == ["a  b", "-  -"]


def test_report_is_json_in_a_folder_that_is_made(tmp_path: Path) -> None:
    path = write_json(tmp_path / "new" / "report.json", {"rows": [1.5, None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"rows": [1.5, None]}


def test_machine_says_what_a_report_must_name() -> None:
    found = machine.describe(2, ceilings=False)
    assert {"cpu", "cores", "simd_bits", "threads", "versions", "date", "commit"} <= found.keys()
    assert found["cpu"] and found["cores"] >= 1 and found["simd_bits"] in (128, 256, 512)
    assert {"python", "numba", "llvmlite", "numpy", "onnxruntime", "torch"} <= found["versions"].keys()
    assert found["fma_gflops"] == {} and found["triad_gbytes"] == {}
    json.dumps(found)


def test_the_larger_ceilings_count() -> None:
    found = machine.describe(1, ceilings=False) | {"fma_gflops": {"1": 1e9}, "triad_gbytes": {"1": 1e-9}}
    machine.measure_ceilings(found, quick=True)
    assert found["fma_gflops"] == {"1": 1e9} and found["triad_gbytes"]["1"] > 1e-3


def test_heading_names_the_ceilings() -> None:
    found = machine.describe(2, ceilings=False) | {"fma_gflops": {"1": 152.0, "2": 295.0}}
    text = machine.heading(found)
    assert "FMA ceiling: 152 GFLOP/s on 1 thread, 295 GFLOP/s on 2 threads" in text
    assert found["cpu"] in text and found["date"] in text and "memory triad" not in text


def test_agree_measures_in_deviations() -> None:
    theirs = np.array([1.0, -1.0], np.float32)
    assert agree("x", theirs + np.float32(1e-4), theirs) == pytest.approx(1e-4, rel=1e-2)
    assert agree_scalar("x", 1.01, 1.0, 0.02) == pytest.approx(0.01)


@pytest.mark.parametrize("ours", [[1.0, -0.9], [1.0, np.nan], [1.0, -1.0, 0.0]])
def test_agree_fails_loudly(ours: list[float]) -> None:
    with pytest.raises(Disagreement, match="net: "):
        agree("net", np.array(ours, np.float32), np.array([1.0, -1.0], np.float32))


@pytest.mark.parametrize("ours", [1.1, np.nan])
def test_scalars_that_differ_fail_loudly(ours: float) -> None:
    with pytest.raises(Disagreement, match="loss: "):
        agree_scalar("loss", ours, 1.0, 1e-2)


def test_ceilings_are_measured() -> None:
    from nbcnn.report.ceiling import fma_gflops, triad_gbytes

    assert 0.1 < fma_gflops(1, seconds=0, steps=10_000) < 10_000
    assert 0.01 < triad_gbytes(1, seconds=0, megabytes=1) < 10_000
