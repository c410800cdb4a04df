"""Kernels are compiled before they are called, in several processes; whatever goes wrong there is made good here."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import pytest

import nbcnn
from nbcnn import zoo
from nbcnn.binder import Call
from nbcnn.compilation import Compilation, compile_ahead, watch_compilation
from nbcnn.graph import Node
from nbcnn.kernels import load
from nbcnn.kernels.cpu import ahead
from nbcnn.kernels.cpu.ahead import Job, compile_all, effort, missing


def fill_jobs(*types: type, value: type | None = None) -> list[Job]:
    """Jobs for types that nothing else compiles this kernel for; each test takes its own."""
    return missing([("fill", (np.zeros(3, t), (value or t)(1))) for t in types])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and workers also for little to do."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(ahead, "WORTH_A_WORKER", 1)
    return tmp_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The workers that were started; none may be left."""
    workers: list[subprocess.Popen[bytes]] = []
    start = ahead._start_workers

    def remember(count: int) -> list[subprocess.Popen[bytes]]:
        workers.extend(start(count))
        return workers

    monkeypatch.setattr(ahead, "_start_workers", remember)
    yield workers
    assert all(worker.returncode is not None for worker in workers)


def compiled_here(job: Job) -> bool:
    return job.types in job.dispatcher.overloads


def test_a_worker_takes_its_share(folder: Path, started: list[subprocess.Popen[bytes]]) -> None:
    jobs = fill_jobs(np.int8, np.int16)
    assert len(jobs) == 2
    seen: list[tuple[int, int, str]] = []

    def report(done: int, total: int, kernel: str) -> None:
        seen.append((done, total, kernel))
        while done == 1 and not all(job.dispatcher._cache.has(job.types) for job in jobs):
            time.sleep(0.01)  # whoever is done first waits for the other

    compile_all(jobs, 2, report)
    assert len(started) == 1
    assert [here for here in map(compiled_here, jobs)].count(True) == 1
    assert seen == [(0, 2, ""), (1, 2, "fill"), (2, 2, "fill")]
    assert fill_jobs(np.int8, np.int16) == []
    for kind in (np.int8, np.int16):
        x = np.zeros(5, kind)
        jobs[0].dispatcher(x, kind(7))
        assert x.tolist() == [7] * 5


def test_work_of_a_worker_that_dies_is_done_here(
    folder: Path, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBCNN_SIMD", "this is overridden")
    monkeypatch.setattr(ahead, "WIDTH_BYTES", 12345)  # a width that no machine has: the worker fails at its imports
    jobs = fill_jobs(np.uint32, np.int32)
    compile_all(jobs, 2)
    assert len(started) == 1
    assert all(map(compiled_here, jobs))


def test_a_job_that_fails_raises_here(folder: Path, started: list[subprocess.Popen[bytes]]) -> None:
    wrong = Job("fill", (numba.types.unicode_type, numba.types.int64))
    with pytest.raises(numba.core.errors.TypingError):
        compile_all([wrong, *fill_jobs(np.uint64)], 2)


def test_a_folder_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, folder: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    (folder / "file").write_text("")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder / "file"))
    seen: list[Compilation] = []
    calls = [Call("fill", (np.zeros(3, t), t(1)), Node("Fill", [], [])) for t in (np.complex64, np.complex128)]
    with watch_compilation(seen.append):
        assert compile_ahead(calls) == 2
    assert started == [] and [(now.done, now.total, now.kept) for now in seen] == [(i, 2, False) for i in range(3)]
    assert compile_ahead(calls) == 0
    load("cpu", "fill")._cache.enable()  # type: ignore[attr-defined]


@pytest.mark.parametrize("here", [True, False], ids=["own-job", "job-of-a-worker"])
def test_what_a_report_raises_ends_the_workers(
    folder: Path, started: list[subprocess.Popen[bytes]], here: bool
) -> None:
    """Wherever the kernel was compiled that is reported: who called hears of it."""
    jobs = fill_jobs(np.uint8, np.float32, value=np.uint8 if here else np.uint16)
    assert len(jobs) == 2

    def report(done: int, total: int, kernel: str) -> None:
        if done and (threading.current_thread() is threading.main_thread()) == here:
            raise KeyboardInterrupt
        while done and not all(job.dispatcher._cache.has(job.types) for job in jobs):
            time.sleep(0.01)  # so that each side has a job to report

    with pytest.raises(KeyboardInterrupt):
        compile_all(jobs, 2, report)
    assert len(started) == 1


def test_a_worker_ends_with_the_process_that_it_works_for() -> None:
    (worker,) = ahead._start_workers(1)
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.close()
    assert worker.wait(timeout=60) == 0
    worker.stdout.close()


@pytest.mark.parametrize(("processes", "jobs", "workers"), [(1, 3, 0), (2, 1, 0), (2, 3, 1), (4, 3, 2), (64, 30, 7)])
def test_number_of_workers(folder: Path, processes: int, jobs: int, workers: int) -> None:
    some = [Job("conv_gather", ())] * jobs
    assert ahead._worker_count(some, processes) == workers


def test_little_work_is_done_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert ahead._worker_count([Job("fill", ()), Job("fill", ())], 2) == 0


def test_not_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside of another program there is no interpreter to start."""
    monkeypatch.setattr(sys, "executable", "/opt/studio/studio")
    assert ahead._worker_count([Job("conv_gather", ())] * 3, 2) == 0


def test_effort_counts_what_a_kernel_calls() -> None:
    assert effort(Job("conv_gather", ())) > 4 * effort(Job("fill", ())) > 0


@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_left_to_compile_once_a_plan_is_made(training: bool) -> None:
    """The types that are told from a plan are those that its kernels are called with."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 1 if training else 3, 40, 40), dtype=np.float32)
    model = zoo.lenet(size=40) if training else zoo.resnet18(classes=10, size=40)
    found: list[str] = []

    class Listener(numba.core.event.Listener):
        def on_start(self, event: numba.core.event.Event) -> None:
            found.append(event.data["dispatcher"].__name__)

        def on_end(self, event: numba.core.event.Event) -> None:
            pass

    if training:
        trainer = nbcnn.Trainer(model)
        trainer.plan(x, np.zeros(2, np.int64)).compile()
    else:
        model.plan({"input": x}).compile()
    with numba.core.event.install_listener("numba:compile", Listener()):
        if training:
            trainer.step(x, np.zeros(2, np.int64))
        else:
            model(x)
    assert found == []


def test_watching(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who watches is told, and nobody else."""
    code = """
import numpy as np
from nbcnn import zoo
from nbcnn.compilation import watch_compilation
x = np.zeros((1, 16), np.float32)
with watch_compilation(lambda now: print(now.done, now.total, now.kernel)):
    zoo.mlp((16, 8, 4))(x)
zoo.mlp((16, 8, 4))(x)
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(Path(nbcnn.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    total = int(lines[0].split()[1])
    assert total > 0 and [line.split()[:2] for line in lines] == [[str(i), str(total)] for i in range(total + 1)]
    with watch_compilation(lambda now: pytest.fail(f"nothing is missing: {now}")):
        assert Compilation(0, 0, "") == Compilation(0, 0, "")
