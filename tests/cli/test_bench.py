"""`nbcnn bench`: what it prints and writes, and its errors. Speeds are not looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Cli = Callable[..., Result]
Fails = Callable[..., str]
QUICK = ("--seconds", "0.05", "--threads", "1")


def test_a_table_a_report_and_a_page(cli: Cli, lenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("bench", lenet, *QUICK, "--batch", 2, "--top", 3, "--train", "--trace", "trace.json")
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {"lenet-bench.json", "lenet-bench.html", "trace.json"}
    report = json.loads(Path("lenet-bench.json").read_text())
    assert report["network"]["inputs"]["input"]["shape"] == [2, 1, 8, 8] and report["training"]["layers"]
    page = Path("lenet-bench.html").read_text()
    assert page.startswith("<!doctype html>") and "lenet.onnx" in page
    assert json.loads(Path("trace.json").read_text())["traceEvents"]
    for text in ("inference", "training step", "median time", "onnxruntime ms", "roofline", "outside of nodes"):
        assert text in result.stdout
    assert "wrote lenet-bench.json" in result.stdout


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without measuring memory, which takes processes of their own."""
    from nbcnn.report import network

    monkeypatch.setattr(network, "measure_apart", lambda *args, **kwargs: None)


@pytest.mark.usefixtures("no_processes")
def test_json_can_be_printed(cli: Cli, lenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("bench", lenet, *QUICK, "--no-files", "--json", "-", "--alone")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["inference"]["peer"] is None and report["settings"]["threads"] == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_processes")
def test_shapes_can_be_given(cli: Cli, lenet: Path) -> None:
    shape = ("--shape", "3,1,8,8", "--no-files", "--json", "-", "--alone")
    result = cli("bench", lenet, *QUICK, *shape)
    assert json.loads(result.stdout)["network"]["inputs"]["input"]["shape"] == [3, 1, 8, 8]
    result = cli("bench", lenet, *QUICK, "--dim", "N=4", *shape[2:])
    assert json.loads(result.stdout)["network"]["inputs"]["input"]["shape"] == [4, 1, 8, 8]


@pytest.mark.usefixtures("no_processes")
def test_no_layers(cli: Cli, lenet: Path) -> None:
    result = cli("bench", lenet, *QUICK, "--no-files", "--alone", "--top", 0)
    assert "median time" in result.stdout and "outside of nodes" not in result.stdout
    assert "without onnxruntime: it was left out" in result.stdout


def test_what_cannot_be_written_is_said_before_anything_is_timed(fails: Fails, lenet: Path, tmp_path: Path) -> None:
    line = fails("bench", lenet, "--html", tmp_path / "none" / "page.html", "--no-files")
    assert "page.html: cannot be written: there is no folder" in line


def test_a_missing_file(fails: Fails, tmp_path: Path) -> None:
    assert "no such file" in fails("bench", tmp_path / "none.onnx", "--no-files")


def test_a_dimension_that_is_not_there(fails: Fails, lenet: Path) -> None:
    assert "no dimension 'M'" in fails("bench", lenet, "--dim", "M=2", "--no-files")


@pytest.mark.parametrize(
    "args",
    [
        ("--seconds", "0"),
        ("--seconds", "nan"),
        ("--seconds", "inf"),
        ("--json", "one", "--trace", "one"),
        ("--batch", "0"),
        ("--batch", str(2**31)),
        ("--dim", "N"),
        ("--top", "-1"),
    ],
)
def test_wrong_command_lines(cli: Cli, lenet: Path, args: tuple[str, ...]) -> None:
    assert cli("bench", lenet, *args).exit_code == 2


def test_results_that_differ(fails: Fails, lenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbcnn.report import beside

    monkeypatch.setattr(beside, "TOLERANCE", -1.0)
    monkeypatch.setattr(beside, "NEGLIGIBLE", -1.0)
    assert "output 'output': the results differ" in fails("bench", lenet, *QUICK, "--no-files")
