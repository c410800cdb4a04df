"""What is printed and kept of a run: tables, JSON, the machine, and the refusal to time wrong results."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from bench.report import table
from nbcnn.report import machine
from nbcnn.report.agreement import Disagreement, agree, agree_scalar
from nbcnn.report.html.page import machine_section
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


@pytest.mark.parametrize(
    ("threads", "cores", "load", "ceilings", "words"),
    [
        (2, 2, 0.4, {"1": 100.0, "2": 190.0}, ""),
        (2, 2, 0.4, {"1": 100.0, "2": 131.0}, ""),
        (2, 2, 0.4, {"1": 100.0, "2": 105.0}, "2 threads did 1.05 times the multiply-adds of one"),
        (8, 8, 4.1, {"1": 100.0, "8": 700.0}, "the load average was 4.1 on 8 cores at the start"),
        (1, 1, 0.6, {"1": 100.0}, "the load average was 0.6 on 1 core at the start"),
        (1, 4, 2.0, {}, ""),
        (2, 4, None, {}, ""),
        (2, 2, 1.9, {"1": 90.0, "2": 45.0}, "2 threads did 0.50 times the multiply-adds of one, the load average was"),
    ],
)
def test_a_busy_machine_is_named(
    threads: int, cores: int, load: float | None, ceilings: dict[str, float], words: str
) -> None:
    found = machine.describe(threads, ceilings=False) | {"system_cores": cores, "load": load, "fma_gflops": ceilings}
    notes = [line for line in machine.heading(found).splitlines() if line.startswith("note: ")]
    assert len(notes) == bool(words)
    assert all(note.startswith(f"note: this machine is busy, timings are worth little: {words}") for note in notes)
    assert ("this machine is busy" in machine_section(found, {})) == bool(words)


def test_the_load_is_that_of_the_system() -> None:
    before, found, after = os.getloadavg()[0], machine.describe(1, ceilings=False)["load"], os.getloadavg()[0]
    assert min(before, after) - 0.01 <= found <= max(before, after) + 0.01


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
