"""All tests that a GPU can take, in one go: `make test-gpu`, or `python tests/gpu/run.py`.

- tests/cuda: the CUDA kernels, operator by operator, forward and backward, against the float64 oracle;
- tests/ops: all operators' own tests, with the GPU as their device;
- tests/gpu: whole networks, training, CUDA graphs, memory;
- tests/cuda once more under compute-sanitizer, where that is installed.

Each file has a process of its own, a few at a time: after a wild access a process can use the GPU no more. Nothing is
installed: this Python must have the packages, which are named where they are missing. 0: all well; 1: a test failed, or
had no time left; 2: packages are missing; 3: there is no GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("numpy", "numba", "numba_cuda", "onnx", "onnxruntime", "ml_dtypes", "pytest")
USED = ("torch", "PIL")
ALONE = "tests/gpu/test_memory.py"
"""Looks at how much of the GPU's memory is free, so nothing else may run beside it."""
LIMIT = 300
"""Seconds that one file may take."""
ERRORS, NAMES = 8, 6
"""Lines that are shown of a file that failed; the log has everything."""
SANITIZER = ["compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "86", "--report-api-errors", "no"]


@dataclass
class Task:
    """A file of tests, and the command before Python that runs it."""

    file: str
    before: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        return f"{self.before[0]}: {self.file}" if self.before else self.file


@dataclass
class Result:
    task: Task
    ok: bool
    summary: str
    output: str
    seconds: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether everything is there")
    parser.add_argument(
        "--only", default="", help="only files whose name contains this text, such as tests/gpu or conv"
    )
    parser.add_argument("--jobs", type=int, default=max(1, min(12, (os.cpu_count() or 3) - 2)), help="at a time")
    parser.add_argument("--minutes", type=float, default=25.0, help="no file is begun after so many")
    parser.add_argument("--no-sanitizer", action="store_true", help="leave compute-sanitizer out")
    parser.add_argument("--log", type=Path, default=ROOT / "runs" / "test-gpu.log", help="everything that was printed")
    args = parser.parse_args()
    code = missing()
    if code or args.check:
        return code
    print(gpu_line(), flush=True)
    problem = gpu_problem()
    if problem:
        print(problem, file=sys.stderr)
        return 3
    chosen = [task for task in tasks(not args.no_sanitizer) if args.only in task.label]
    end = time.monotonic() + 60 * args.minutes
    args.log.parent.mkdir(parents=True, exist_ok=True)
    with args.log.open("w", encoding="utf-8") as log:
        results = []
        for result in run_all(chosen, args.jobs, end):
            results.append(result)
            show(result)
            log.write(f"===== {result.task.label}: {result.summary}\n{result.output}\n")
            log.flush()
    return conclude(results, args.log)


def missing() -> int:
    """2 or 3 where something is not there, which is printed; else 0."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        print("make test-gpu needs a GPU: NVIDIA's driver, libcuda.so.1, is not here", file=sys.stderr)
        return 3
    lacking = [name for name in NEEDED if not find_spec(name)]
    if lacking:
        print(f"{sys.executable} lacks {', '.join(lacking)}, which the tests need", file=sys.stderr)
        return 2
    without = [name for name in USED if not find_spec(name)]
    if without:
        print(f"{', '.join(without)} not installed: the tests that compare with it are skipped")
    return 0


def gpu_line() -> str:
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    if not shutil.which(command[0]):
        return "nvidia-smi is not here: the GPU's name is not known"
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def gpu_problem() -> str:
    """Why nbcnn cannot use the GPU; "" where it can."""
    command = [sys.executable, "-c", "from nbcnn.devices import find_device; find_device('cuda')"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def tasks(sanitizer: bool) -> list[Task]:
    """What takes long comes first; what must be alone comes last."""
    found = [Task(path) for folder in ("gpu", "cuda", "ops") for path in files(folder) if path != ALONE]
    if sanitizer and shutil.which(SANITIZER[0]):
        found += [Task(path, SANITIZER) for path in files("cuda")]
    elif sanitizer:
        print(f"{SANITIZER[0]} is not installed: the kernels' accesses are not checked")
    return [*found, Task(ALONE)]


def files(folder: str) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "tests" / folder).glob("test_*.py"))]


def run_all(chosen: list[Task], jobs: int, end: float) -> Iterator[Result]:
    """Results as they come."""
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(run, task, end) for task in chosen if task.file != ALONE]
        for future in waiting:
            yield future.result()
    yield from (run(task, end) for task in chosen if task.file == ALONE)


def run(task: Task, end: float) -> Result:
    left = end - time.monotonic()
    if left <= 0:
        return Result(task, False, "not run: no time was left (--minutes)", "")
    # Warnings are no errors here: which versions of the packages a machine with a GPU has is not ours to choose.
    command = [*task.before, sys.executable, "-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider", task.file]
    start = time.monotonic()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = process.communicate(timeout=min(LIMIT, left + 30))
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        return Result(task, False, "stopped: it took too long", output, time.monotonic() - start)
    ok = process.returncode in (0, 5)  # 5: a file without tests
    return Result(task, ok, last_line(output), output, time.monotonic() - start)


def environment() -> dict[str, str]:
    """The tests' own settings; several processes share the processor, so each has few threads."""
    settings = {"NBCNN_CUDA": "gpu", "NBCNN_TEST_DEVICE": "cuda", "NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    if "CUDA_HOME" not in os.environ and (nvcc := shutil.which("nvcc")):
        settings["CUDA_HOME"] = str(Path(nvcc).resolve().parents[1])  # where Numba looks for NVVM
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, **settings, "PYTHONPATH": path}


def last_line(output: str) -> str:
    """pytest's count of what passed and failed."""
    found = re.findall(r"^=*\s*(.*\d+ (?:passed|failed|skipped|errors?|deselected).*?)\s*=*$", output, re.MULTILINE)
    return found[-1] if found else "no tests were counted"


def show(result: Result) -> None:
    """A line; for what failed also the errors, each once, and the names of the first tests."""
    mark = "ok    " if result.ok else "FAILED"
    print(f"{mark} {result.seconds:6.1f} s  {result.task.label}: {result.summary}", flush=True)
    if not result.ok:
        lines = result.output.splitlines()
        errors = list(dict.fromkeys(line for line in lines if line.startswith(("E  ", "========= ", "Fatal"))))
        names = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        for line in [*errors[:ERRORS], *names[:NAMES]] or lines[-ERRORS:]:
            print(f"    {line[:200]}", flush=True)


def conclude(results: list[Result], log: Path) -> int:
    failed = [result for result in results if not result.ok]
    reasons = sorted({line for r in results for line in r.output.splitlines() if line.startswith("SKIPPED")})
    for line in reasons:
        print(line[:200])
    print(f"{len(results) - len(failed)} of {len(results)} files are well; everything that was printed: {log}")
    for result in failed:
        print(f"FAILED {result.task.label}: {result.summary}")
    return int(bool(failed) or not results)


if __name__ == "__main__":
    sys.exit(main())
