"""What an engine takes besides its kernels: Python's time between them, cores that it keeps busy after a call, and what
is left for a second process.

Python: a plan is run once more with kernels that do nothing and take the same arguments; what that takes is not work.
Processes: one runs a network alone, then two do at the same time, each with all threads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba

from bench.networks import SHAPES, build, inputs, onnx_file
from bench.options import ROOT, add_timing, finish, plan_of, start
from bench.report import table
from nbcnn.executor import execute
from nbcnn.plan import Plan
from nbcnn.report import timing

__all__ = ["configure", "run"]

SIDES = ("nbcnn", "onnxruntime")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nets", nargs="*", choices=sorted(SHAPES), default=["resnet50", "lenet"], help="Python's time"
    )
    parser.add_argument("--together", nargs="*", choices=sorted(SHAPES), default=["resnet18"], help="in two processes")
    parser.add_argument("--span", type=float, default=5.0, help="seconds that a process runs")
    add_timing(parser, "overhead")


def run(args: argparse.Namespace) -> int:
    machine = start(args)
    rows: list[dict[str, Any]] = [python_time(name, plan_of(args)) for name in args.nets]
    columns = ["network", "kernels", "whole ms", "without kernels ms", "Python's share %"]
    print(
        table(columns, [[r["network"], r["kernels"], r["ms"], r["python_ms"], 100 * r["share"]] for r in rows]) + "\n"
    )
    shared = [together(name, side, args.threads, args.span) for name in args.together for side in SIDES]
    columns = ["network", "side", "runs/s alone", "of two", "", "sum / alone", "less / more", "idle CPU ms"]
    print(table(columns, [cells(row) for row in shared]))
    print("runs/s of a process alone, and of each of two at the same time; idle CPU: that of the second after a run")
    finish(args, machine, [*rows, *shared])
    return 0


# --- Python


def python_time(name: str, plan: timing.Plan) -> dict[str, Any]:
    """A network at batch 1: how long a run of its plan takes, with kernels and with empty ones."""
    model = build(name)
    feeds = {"input": inputs(name, 1)}
    model.run(None, feeds)
    whole = model.plan(feeds)
    hollow = without_kernels(whole)
    sides = [timing.Side("whole", lambda: execute(whole)), timing.Side("hollow", lambda: execute(hollow))]
    found = timing.compare(sides, plan)
    ms, python = (1e3 * found[side].median for side in ("whole", "hollow"))
    return {"network": name, "kernels": len(whole.steps), "ms": ms, "python_ms": python, "share": python / ms}


def without_kernels(plan: Plan) -> Plan:
    """The plan with compiled functions that do nothing in place of its kernels."""
    made: dict[int, Callable[..., None]] = {}
    for _, args in plan.steps:
        if len(args) not in made:
            made[len(args)] = nothing(len(args))
    return replace(plan, steps=[(made[len(args)], args) for _, args in plan.steps])


def nothing(count: int) -> Any:
    """A compiled function of so many arguments that does nothing."""
    names = ", ".join(f"a{i}" for i in range(count))
    return numba.njit(eval(f"lambda {names}: None"))


# --- processes


def together(name: str, side: str, threads: int, seconds: float) -> dict[str, Any]:
    """Runs a second of one process, and of two at the same time."""
    with onnx_file(build(name)) as path:
        alone = processes(1, name, side, path, threads, seconds)
        both = processes(2, name, side, path, threads, seconds)
    rates = sorted((found["rate"] for found in both), reverse=True)
    return {
        "network": name,
        "side": side,
        "alone": alone[0]["rate"],
        "of_two": rates,
        "sum_over_alone": sum(rates) / alone[0]["rate"],
        "less_over_more": rates[1] / rates[0],
        "idle_ms": 1e3 * alone[0]["idle_seconds"],
    }


def processes(count: int, name: str, side: str, path: Path, threads: int, seconds: float) -> list[dict[str, float]]:
    """What workers answer that begin at the same time."""
    shape = ",".join(map(str, (1, *SHAPES[name])))
    command = [sys.executable, "-m", "bench.worker", side, str(path), shape]
    command += ["--threads", str(threads), "--seconds", str(seconds)]
    pipe = subprocess.PIPE
    workers = [subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for _ in range(count)]
    for worker in workers:
        assert worker.stdout is not None
        if worker.stdout.readline() != "ready\n":
            raise SystemExit(f"the process that runs {name} ended with {worker.wait()}")
    answers = []
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        answers.append(json.loads(worker.communicate()[0]))
    return answers


def cells(row: dict[str, Any]) -> list[Any]:
    rates = [row["alone"], *row["of_two"], row["sum_over_alone"], row["less_over_more"]]
    return [row["network"], row["side"], *rates, row["idle_ms"]]
