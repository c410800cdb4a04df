"""Anonymous resident memory that loading a network and three runs at batch 1 add to a process whose kernels are warm.

Each side is measured in processes of its own, three times; the middle one counts. The weights' bytes stand beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.machine import ROOT
from bench.networks import build, onnx_file
from bench.options import add_out, finish, start
from bench.report import table

__all__ = ["configure", "run"]

MEGA = 1e6


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nets", nargs="+", choices=["resnet18", "resnet50", "vgg16"], default=["resnet50"])
    parser.add_argument("--processes", type=int, default=3, help="of each side")
    add_out(parser, "memory")
    parser.set_defaults(quick=False)


def run(args: argparse.Namespace) -> int:
    machine = start(args)
    rows = []
    for name in args.nets:
        model = build(name)
        weights = sum(array.nbytes for array in model.graph.initializers.values())
        with onnx_file(model) as path:
            rows.append({"network": name, "weights_bytes": weights, **one(path, args.threads, args.processes)})
        del model
    columns = ["network", "weights MB"]
    columns += [f"{side} {key}" for side in ("nbcnn", "onnxruntime") for key in ("MB", "loaded", "needed")]
    columns.append("ours / theirs")
    print(table(columns, [cells(row) for row in rows]))
    print("MB: anonymous resident memory added by loading and three runs at batch 1; loaded: by loading alone;")
    print("needed: what stays of it after malloc_trim, which gives the system back what the process has free")
    finish(args, machine, rows)
    return 0


def one(path: Path, threads: int, processes: int) -> dict[str, Any]:
    """All measurements of both sides, the sides in turn."""
    found: dict[str, list[dict[str, int]]] = {"nbcnn": [], "onnxruntime": []}
    for _ in range(processes):
        for side, measured in found.items():
            measured.append(probe(side, path, threads))
    ours, theirs = (statistics.median(m["added"] for m in measured) for measured in found.values())
    return {"measurements": found, "ratio": ours / theirs}


def probe(side: str, path: Path, threads: int) -> dict[str, int]:
    """bench.probe's answer from a new process."""
    command = [sys.executable, "-m", "bench.probe", side, str(path), "--threads", str(threads)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, int] = json.loads(done.stdout)
    return answer


def cells(row: dict[str, Any]) -> list[Any]:
    found: list[Any] = [row["network"], row["weights_bytes"] / MEGA]
    for side in ("nbcnn", "onnxruntime"):
        measured = row["measurements"][side]
        found += [statistics.median(m[key] for m in measured) / MEGA for key in ("added", "loaded", "needed")]
    return [*found, row["ratio"]]
