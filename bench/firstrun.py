"""The first run on a machine, with nothing compiled yet, and the next one: whole processes, from start to end.

Each cold run has an empty folder of compiled kernels; each warm one has what a cold one left. Seconds are those of the
clock, and, behind them, those of all processors together: what a run costs whatever else the machine does. Kernels are
compiled once more, one by one in a process of their own, to see what each costs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.networks import build, inputs
from bench.options import ROOT, add_out, finish, start
from bench.report import table

__all__ = ["configure", "run"]

COMMAND = "from nbcnn.cli.main import main; main()"
STEP = """
import sys
import numpy as np
import nbcnn
batch = int(sys.argv[2])
rng = np.random.default_rng(0)
trainer = nbcnn.Trainer(nbcnn.load(sys.argv[1]), optimizer=nbcnn.SGD(lr=0.01, momentum=0.9))
trainer.step(rng.standard_normal((batch, 1, 28, 28), dtype=np.float32), rng.integers(0, 10, batch))
"""
COLD_AIM, WARM_AIM, IMPORT_AIM, HELP_AIM = 25.0, 2.0, 0.2, 0.3
"""Seconds that are thought bearable."""


@dataclass(frozen=True)
class Work:
    """A process to time. compiles: arguments for bench.compile_probe, where it needs kernels."""

    title: str
    arguments: Sequence[str]
    aim: float
    compiles: Sequence[str] = ()


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--net", choices=("lenet", "resnet18", "resnet50", "vgg16"), default="resnet50", help="to infer"
    )
    parser.add_argument("--batch", type=int, default=32, help="of LeNet's training step")
    parser.add_argument("--processes", type=int, default=3, help="cold and warm ones of each; the middle one counts")
    add_out(parser, "firstrun")
    parser.set_defaults(quick=False)


def run(args: argparse.Namespace) -> int:
    machine = start(args)
    rows = []
    with TemporaryDirectory(prefix="nbcnn-bench-") as name:
        folder = Path(name)
        for work in works(folder, args.net, args.batch, args.threads):
            print(f"{work.title} ...", flush=True)
            rows.append(measure(work, folder, args.processes, args.threads))
    columns = ["process", "cold s", "of processors", "aim", "warm s", "of processors", "aim", "kernels"]
    print("\n" + table(columns, [cells(row) for row in rows]))
    for row in rows:
        if row["kernels"]:
            print(f"\ncompiled for {row['process']}, on one core:")
            print(table(["kernel", "seconds", "functions"], [list(k.values()) for k in row["kernels"]]))
    finish(args, machine, rows)
    return 0


def works(folder: Path, net: str, batch: int, threads: int) -> list[Work]:
    """What is timed; the files that it needs are put into the folder."""
    model, lenet, x = folder / f"{net}.onnx", folder / "lenet.onnx", folder / "x.npy"
    build(net).save(model)
    build("lenet").save(lenet)
    np.save(x, inputs(net, 1))
    infer = ["-c", COMMAND, "infer", str(model), str(x), "--json", "--threads", str(threads)]
    step = ["-c", STEP, str(lenet), str(batch)]
    return [
        Work(f"nbcnn infer {net}.onnx", infer, COLD_AIM, ["infer", str(model)]),
        Work(f"LeNet's first step, batch {batch}", step, COLD_AIM, ["step", str(lenet), "--batch", str(batch)]),
        Work("import nbcnn", ["-c", "import nbcnn"], IMPORT_AIM),
        Work("nbcnn --help", ["-c", COMMAND, "--help"], HELP_AIM),
    ]


def measure(work: Work, folder: Path, processes: int, threads: int) -> dict[str, Any]:
    """Cold and warm processes in turn; the seconds of each, and what was compiled."""
    cold, warm = [], []
    for _ in range(processes):
        with TemporaryDirectory(dir=folder) as cache:
            environment = {**os.environ, "NUMBA_CACHE_DIR": cache, "NUMBA_NUM_THREADS": str(threads)}
            cold.append(timed(work.arguments, environment))
            warm.append(timed(work.arguments, environment))
    kernels: Any = []
    if work.compiles:
        with TemporaryDirectory(dir=folder) as cache:
            environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
            command = [sys.executable, "-m", "bench.compile_probe", *work.compiles]
            done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
            kernels = json.loads(done.stdout)
    return {
        "process": work.title,
        "cold": cold,
        "warm": warm,
        "cold_aim_s": work.aim,
        "warm_aim_s": min(work.aim, WARM_AIM),
        "kernels": kernels,
    }


def timed(arguments: Sequence[str], environment: dict[str, str]) -> dict[str, float]:
    """Seconds by the clock and of all processors, of a process and those that it starts and waits for."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True, capture_output=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": seconds, "processor": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def middle(measured: list[dict[str, float]], key: str) -> float:
    return statistics.median(m[key] for m in measured)


def cells(row: dict[str, Any]) -> list[Any]:
    figures = []
    for state in ("cold", "warm"):
        figures += [middle(row[state], "seconds"), middle(row[state], "processor"), row[f"{state}_aim_s"]]
    return [row["process"], *figures, len(row["kernels"]) or None]
