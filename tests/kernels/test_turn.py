"""Processes that want to compile the same: one does. Nobody waits for ever."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numba
import numpy as np
import pytest

import nbcnn
from nbcnn.kernels.cpu import turn as module
from nbcnn.kernels.cpu.ahead import missing
from nbcnn.kernels.cpu.turn import turn

ROOT = Path(nbcnn.__file__).parents[1]

pytestmark = pytest.mark.skipif(not module.LOCKS, reason="this system has no flock")

COMPILE = """
import numpy as np
from nbcnn.kernels.cpu.ahead import missing
(job,) = missing([("fill", (np.zeros(3, np.float32), np.float32(1)))]) or [None]
input()
if job:
    job.compile()
    print(sum(job.dispatcher.stats.cache_misses.values()))
"""
HOLD = """
import sys, time
from pathlib import Path
from nbcnn.kernels.cpu.turn import turn
with turn(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def python(code: str, cache: Path, *args: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_one_process_compiles_and_the_others_have_it(tmp_path: Path) -> None:
    three = [python(COMPILE, tmp_path) for _ in range(3)]
    for process in three:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    compiled = [int(process.communicate(timeout=120)[0] or 0) for process in three]
    assert all(process.returncode == 0 for process in three)
    assert sum(compiled) == 1
    assert len(list(tmp_path.rglob("*.nbc"))) == 1
    assert not list(tmp_path.rglob("*.lock"))


def test_turns_follow_each_other(tmp_path: Path) -> None:
    inside, most = [], []

    def take() -> None:
        for _ in range(20):
            with turn(tmp_path / "x"):
                inside.append(0)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 80 and max(most) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that has the turn for `x`."""
    process = python(HOLD, tmp_path, tmp_path / "x")
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_the_turn_of_a_process_that_was_killed_is_free(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    end(holder)
    assert (tmp_path / "x.lock").exists()
    start = time.monotonic()
    with turn(tmp_path / "x"):
        assert time.monotonic() - start < 5
    assert not (tmp_path / "x.lock").exists()


def test_who_keeps_it_for_too_long_is_passed_by(
    tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.2)
    os.kill(holder.pid, signal.SIGSTOP)
    start = time.monotonic()
    with turn(tmp_path / "x"):
        assert 0.2 <= time.monotonic() - start < 5
    assert (tmp_path / "x.lock").exists()  # the other one's
    end(holder)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_a_folder_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fails(descriptor: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module.fcntl, "flock", fails)
    with turn(tmp_path / "x"), turn(tmp_path / "x"):
        pass


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with turn(tmp_path / "file" / "x"):
        pass
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file"))
    (job,) = missing([("fill", (np.zeros(3, np.uint16), np.uint16(1)))])  # a type that no other test compiles it for
    job.compile()
    job.dispatcher._cache.enable()


def test_an_error_gives_the_turn_back(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), turn(tmp_path / "x"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
