"""What a report says about where and when its figures were taken."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["commit", "cpu_model", "describe", "heading", "measure_ceilings", "other_work", "usable_cores"]

PACKAGES = ("nbcnn", "numba", "llvmlite", "numpy", "onnx", "onnxruntime", "torch")
PACKAGE = Path(__file__).resolve().parents[1]

BUSY_LOAD = 0.5
"""Of the system's cores: a higher load average means that others use them."""
LEAST_GAIN = 1.3
"""What several threads do at least of one thread's multiply-adds where each has a core."""


def cpu_model() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def commit() -> str:
    """The git commit of nbcnn's sources, with "+" where files differ from it; "unknown" where they are not in git.

    An installed package may lie inside somebody's repository, whose commit would say nothing: git must know the file.
    """
    try:
        _git("ls-files", "--error-unmatch", "__init__.py")
        found = _git("rev-parse", "--short=12", "HEAD")
        return found + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=PACKAGE, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _load() -> float | None:
    """How many threads the system ran or kept waiting, on average over the last minute; None where it does not say."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):  # Windows has no such figure
        return None


def describe(threads: int, ceilings: bool = True, quick: bool = False) -> dict[str, Any]:
    """The machine as a report keeps it.

    threads: what the figures of the report are taken with. ceilings: measure fused multiply-adds (GFLOP/s) and the
    memory triad (GB/s) with one thread and with `threads`, a second or two; else both are empty. quick: measure them
    roughly, in a fraction of that.
    """
    from nbcnn.kernels.cpu.width import WIDTH_BYTES

    machine: dict[str, Any] = {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "simd_bits": WIDTH_BYTES * 8,
        "threads": threads,
        "load": _load(),
        "system_cores": os.cpu_count() or 1,
        "fma_gflops": {},
        "triad_gbytes": {},
        "versions": _versions(),
        "system": f"{platform.system()} {platform.release()}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
    }
    if ceilings:
        measure_ceilings(machine, quick)
    return machine


def measure_ceilings(machine: dict[str, Any], quick: bool = False) -> None:
    """Measure the ceilings of a described machine, and keep the larger figures where it has some already: what kept the
    processor busy the first time may have ended.
    """
    from nbcnn.report.ceiling import fma_gflops, triad_gbytes

    for count in sorted({1, machine["threads"]}):
        fma = fma_gflops(count, 0.0, 200_000) if quick else fma_gflops(count)
        triad = triad_gbytes(count, 0.0, 32) if quick else triad_gbytes(count)
        for key, value in (("fma_gflops", fma), ("triad_gbytes", triad)):
            machine[key][str(count)] = max(value, machine[key].get(str(count), 0.0))


def other_work(machine: dict[str, Any]) -> str:
    """Why timings that were taken on this machine are worth little: something else had its cores; "" where nothing
    says so. `load` is the average of the last minute when the machine was described.
    """
    signs, ceilings = [], machine["fma_gflops"]
    one, all_ = ceilings.get("1"), ceilings.get(str(machine["threads"]))
    if one and all_ and machine["threads"] > 1 and all_ < LEAST_GAIN * one:
        signs.append(f"{_threads(machine['threads'])} did {all_ / one:.2f} times the multiply-adds of one")
    load = machine.get("load")  # reports of before have none
    if load is not None and load > BUSY_LOAD * machine["system_cores"]:
        signs.append(f"the load average was {load:.1f} on {_cores(machine['system_cores'])} at the start")
    return f"this machine is busy, timings are worth little: {', '.join(signs)}" if signs else ""


def heading(machine: dict[str, Any]) -> str:
    """The lines that a printed table begins with."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [f"GPU: {machine['gpu']['name']}"] if "gpu" in machine else []
    lines += [
        f"{machine['cpu']}, {machine['cores']} cores, SIMD {machine['simd_bits']} bits; {_threads(machine['threads'])}",
        f"{versions}; commit {machine['commit']}, {machine['date']}",
    ]
    for key, what, unit in (("fma_gflops", "FMA ceiling", "GFLOP/s"), ("triad_gbytes", "memory triad", "GB/s")):
        if machine[key]:
            figures = (f"{value:.4g} {unit} on {_threads(count)}" for count, value in machine[key].items())
            lines.append(f"{what}: {', '.join(figures)}")
    busy = other_work(machine)
    return "\n".join([*lines, f"note: {busy}"] if busy else lines)


def _threads(count: int | str) -> str:
    return "1 thread" if int(count) == 1 else f"{count} threads"


def _cores(count: int) -> str:
    return "1 core" if count == 1 else f"{count} cores"
