"""`nbcnn warmup`, and the line that commands print while kernels are compiled."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import Result

import nbcnn
from nbcnn.cli.compiling import announced
from nbcnn.compilation import Compilation, _watcher
from nbcnn.zoo import graph_of

from .conftest import Cli, saved

ROOT = Path(nbcnn.__file__).parents[1]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One fully connected layer: input (N, 6) -> output (N, 3)."""
    return saved(graph_of("mlp", sizes=(6, 3)), tmp_path_factory.mktemp("tiny") / "tiny.onnx")


def start(cache: Path, *args: object) -> subprocess.Popen[str]:
    """A command in a process of its own, with a cache that may be empty."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    command = [sys.executable, "-c", "from nbcnn.cli.main import main; main()", *map(str, args)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def in_a_process(cache: Path, *args: object) -> subprocess.CompletedProcess[str]:
    """The same, from start to end; it must go well."""
    process = start(cache, *args)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return subprocess.CompletedProcess(process.args, 0, out, err)


def test_a_model_is_compiled_once(tiny: Path, tmp_path: Path) -> None:
    cache, x = tmp_path / "cache", tmp_path / "x.npy"
    np.save(x, np.zeros((1, 6), np.float32))
    assert re.match(r"compiled (1 kernel|[2-9] kernels|\d\d+ kernels) in ", in_a_process(cache, "warmup", tiny).stdout)
    kept = sorted(cache.rglob("*.nbc"))
    assert kept
    run = in_a_process(cache, "infer", tiny, x, "--json")
    assert "compiling" not in run.stderr and sorted(cache.rglob("*.nbc")) == kept
    assert in_a_process(cache, "warmup", tiny).stdout == "everything was compiled already\n"


def test_two_at_once(tiny: Path, tmp_path: Path) -> None:
    """Each waits for what the other compiles; what they leave is whole, whoever was last."""
    both = [start(tmp_path, "warmup", tiny) for _ in range(2)]
    for process in both:
        out, err = process.communicate()
        assert process.returncode == 0 and out.startswith(("compiled ", "everything")), err
    assert in_a_process(tmp_path, "warmup", tiny).stdout == "everything was compiled already\n"
    assert not [*tmp_path.rglob("*.tmp"), *tmp_path.rglob("*.lock")]


def test_the_first_run_says_that_it_compiles(tiny: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 6), np.float32))
    run = in_a_process(tmp_path / "cache", "infer", tiny, tmp_path / "x.npy", "--json")
    (line,) = run.stderr.splitlines()
    assert line.startswith("note: compiling ") and line.endswith(" for this machine, once")


def test_training_and_standard_set(cli: Cli, lenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for; that it is compiled is tested above and in tests/kernels/test_ahead.py."""
    kernels: set[str] = set()

    def remember(calls: object) -> int:
        kernels.update(call.kernel for call in calls)  # type: ignore[attr-defined]
        return 0

    monkeypatch.setattr("nbcnn.warmup.compile_ahead", remember)
    assert cli("warmup", lenet, "--batch", 2).output == "everything was compiled already\n"
    assert not any(name.startswith("sgd_update") for name in kernels)
    cli("warmup", lenet, "--batch", 2, "--train")
    assert any(name.startswith("sgd_update") for name in kernels)
    kernels.clear()
    result: Result = cli("warmup")
    assert result.exit_code == 0, result.output
    have = {name.partition(":")[0] for name in kernels}
    families = {"conv_gather", "conv_weight_grad", "winograd_conv", "winograd_weight_grad", "depthwise_3x3", "pool"}
    assert families | {"adam_update", "sgd_update", "batch_norm_sums", "class_loss", "lrn", "dropout"} <= have


def test_wrong_use(cli: Cli, fails: Callable[..., str], tmp_path: Path) -> None:
    assert cli("warmup", "--train").exit_code == 2
    assert "no such file" in fails("warmup", tmp_path / "none.onnx")
    assert "no input 'y'" in fails(
        "warmup", saved(graph_of("mlp", sizes=(6, 3)), tmp_path / "m.onnx"), "--shape", "y=1,6"
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_line(terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with announced():
        watcher = _watcher.get()
        assert watcher is not None
        for done in range(3):
            watcher(Compilation(done, 2, "", kept=True))
    lines = click.unstyle(capsys.readouterr().err).splitlines()
    if terminal:
        text = "compiling 2 kernels for this machine, once"
        assert lines[:3] == ["", f"{text}: 0 done", f"{text}: 1 done"]
        assert lines[3].startswith("note: compiled 2 kernels for this machine, once: ")
    else:
        assert lines == ["note: compiling 2 kernels for this machine, once"]


def test_a_line_that_was_interrupted_is_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(KeyboardInterrupt), announced():
        watcher = _watcher.get()
        assert watcher is not None
        watcher(Compilation(0, 1, ""))
        raise KeyboardInterrupt
    assert capsys.readouterr().err.endswith("compiling 1 kernel for this machine, once: 0 done\n")


def test_a_cache_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with announced():
        watcher = _watcher.get()
        assert watcher is not None
        watcher(Compilation(0, 3, "", kept=False))
    assert "set NUMBA_CACHE_DIR" in capsys.readouterr().err


def test_warmup_fails_where_nothing_can_be_kept(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    process = start(tmp_path / "file" / "cache", "warmup", tiny)
    out, err = process.communicate()
    assert (process.returncode, out) == (1, "") and "set NUMBA_CACHE_DIR" in err
