"""Compiling the kernels of a plan before they are called, in several processes at once.

Numba compiles in one thread, and holds a lock while it does. When a plan is made, all its kernels and the types of
their arguments are known; those that are not kept on disk are shared out among this process and some others
(worker.py), which put what they compile into the folder where this one finds it. Whatever a worker cannot do, for
whatever reason, is done here.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numba
from numba.core.dispatcher import Dispatcher

from nbcnn.kernels import load
from nbcnn.kernels.cpu.width import WIDTH_BYTES

__all__ = ["Job", "Report", "compile_all", "missing"]

Report = Callable[[int, int, str], None]
"""Called with the number of kernels that are done, the number of all, and the name of the one that was done last."""

MOST_WORKERS = 7
"""Each takes some 150 MB of memory."""
WORTH_A_WORKER = 1500
"""Work, in the measure of `effort`, that takes about as long as a worker takes to start: half a second."""
SOURCES = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Job:
    """A kernel to compile for arguments of these Numba types."""

    kernel: str
    types: tuple[Any, ...]

    @property
    def dispatcher(self) -> Any:
        return load("cpu", self.kernel)

    def compile(self) -> None:
        """Compile it here, or take it from the cache, where another process may be about to put it."""
        with self.dispatcher._cache.turn(self.types):
            self.dispatcher.compile(self.types)


def missing(calls: Iterable[tuple[str, Sequence[Any]]]) -> list[Job]:
    """What has to be compiled before these calls (a kernel's name and arguments) can be made."""
    jobs = {}
    for name, args in calls:
        dispatcher: Any = load("cpu", name)
        job = Job(name, tuple(dispatcher.typeof_pyval(a) for a in args))
        if job not in jobs:
            jobs[job] = job.types in dispatcher.overloads or dispatcher._cache.has(job.types)
    return [job for job, ready in jobs.items() if not ready]


def effort(job: Job) -> int:
    """How much there is to compile: bytes of bytecode of the kernel and of all that it calls of ours."""
    seen: set[Any] = set()
    waiting = [job.dispatcher]
    while waiting:
        function = waiting.pop().py_func
        if function not in seen:
            seen.add(function)
            named = (function.__globals__.get(name) for name in function.__code__.co_names)
            waiting.extend(value for value in named if isinstance(value, Dispatcher))
    return sum(len(function.__code__.co_code) for function in seen)


def compile_all(jobs: Sequence[Job], processes: int, report: Report = lambda done, total, kernel: None) -> None:
    """Compile them, the largest first, in up to so many processes, this one included.

    More than one are of use only where what they compile is kept on disk.
    """
    waiting = deque(sorted(jobs, key=effort, reverse=True))
    lock, done = threading.Lock(), 0

    def finished(job: Job) -> None:
        nonlocal done
        with lock:
            done += 1
            report(done, len(jobs), job.kernel)

    report(0, len(jobs), "")
    with _Crew(_worker_count(waiting, processes), waiting, finished) as crew:
        while crew.busy() or waiting:
            try:
                job = waiting.popleft()
            except IndexError:
                crew.wait()  # which may give jobs back
            else:
                job.compile()
                finished(job)
            crew.check()


def _worker_count(jobs: Sequence[Job], processes: int) -> int:
    """As many as there are processes and jobs for, while there is enough to do for each."""
    shared = sum(effort(job) for job in jobs) // WORTH_A_WORKER if jobs else 0
    count = min(processes - 1, len(jobs) - 1, shared - 1, MOST_WORKERS)
    return count if count > 0 and _interpreter() else 0


def _interpreter() -> str:
    """Python, as far as it is sure that this is what is running; "" inside of another program."""
    path = sys.executable or ""
    return path if Path(path).name.lower().startswith(("python", "pypy")) and not hasattr(sys, "frozen") else ""


class _Crew:
    """Workers, each with a thread here that hands it one job after the other. None outlives the `with`."""

    def __init__(self, count: int, waiting: deque[Job], finished: Callable[[Job], None]) -> None:
        self._waiting, self._finished = waiting, finished
        self._error: BaseException | None = None
        self._workers = _start_workers(count)
        self._threads = [threading.Thread(target=self._serve, args=(w,), daemon=True) for w in self._workers]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def wait(self) -> None:
        """Until the workers have nothing more to do."""
        for thread in self._threads:
            thread.join()

    def check(self) -> None:
        """Raise what the report of a worker's job raised: in its thread, nobody would hear of it."""
        if self._error is not None:
            raise self._error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()
        self.wait()
        for worker in self._workers:
            for pipe in (worker.stdin, worker.stdout):
                assert pipe is not None
                pipe.close()

    def _serve(self, worker: subprocess.Popen[bytes]) -> None:
        assert worker.stdin is not None and worker.stdout is not None
        while True:
            try:
                job = self._waiting.popleft()
            except IndexError:
                return
            try:
                worker.stdin.write(pickle.dumps(job))
                worker.stdin.flush()
                answered = worker.stdout.read(1) == b"+"
            except OSError:
                answered = False
            if not answered:
                self._waiting.append(job)  # for others to try
                return
            try:
                self._finished(job)
            except BaseException as error:
                self._error = error
                return


def _start_workers(count: int) -> list[subprocess.Popen[bytes]]:
    """Processes with this one's settings, which read jobs and say "+" after each; fewer where no more can be had."""
    path = [str(SOURCES), *filter(None, sys.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "NBCNN_SIMD": str(WIDTH_BYTES * 8)}
    if numba.config.CACHE_DIR:
        environment["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR
    command = [_interpreter(), "-P", "-m", "nbcnn.kernels.cpu.worker"]
    # What they have to say, such as a traceback, is said again by whoever compiles their jobs after them.
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    workers = []
    with suppress(OSError):
        for _ in range(count):
            workers.append(subprocess.Popen(command, env=environment, **streams))  # type: ignore[call-overload]
    return workers
