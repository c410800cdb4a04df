"""Anonymous resident memory that loading a network and three runs at batch 1 add to a process whose kernels are warm.

Each side is measured in processes of its own, three times; the middle one counts. The weights' bytes stand beside it.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from bench.networks import build, inputs, onnx_file
from bench.options import add_out, finish, start
from bench.report import table
from nbcnn.report.probe import measure_apart

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
            found = one(path, args.threads, args.processes, {"input": inputs(name, 1)})
            rows.append({"network": name, "weights_bytes": weights, **found})
        del model
    columns = ["network", "weights MB"]
    columns += [f"{side} {key}" for side in ("nbcnn", "onnxruntime") for key in ("MB", "loaded", "needed")]
    columns.append("ours / theirs")
    print(table(columns, [cells(row) for row in rows]))
    print("MB: anonymous resident memory added by loading and three runs at batch 1; loaded: by loading alone;")
    print("needed: what stays of it after malloc_trim, which gives the system back what the process has free")
    finish(args, machine, rows)
    return 0


def one(path: Path, threads: int, processes: int, feeds: dict[str, np.ndarray]) -> dict[str, Any]:
    """All measurements of both sides, the sides in turn."""
    found: dict[str, list[dict[str, int]]] = {"nbcnn": [], "onnxruntime": []}
    for _ in range(processes):
        for side, measured in found.items():
            answer = measure_apart(side, path, threads, feeds)
            if answer is None:
                raise SystemExit("resident memory is read from /proc, which only Linux has")
            measured.append(answer)
    ours, theirs = (statistics.median(m["added"] for m in measured) for measured in found.values())
    return {"measurements": found, "ratio": ours / theirs}


def cells(row: dict[str, Any]) -> list[Any]:
    found: list[Any] = [row["network"], row["weights_bytes"] / MEGA]
    for side in ("nbcnn", "onnxruntime"):
        measured = row["measurements"][side]
        found += [statistics.median(m[key] for m in measured) / MEGA for key in ("added", "loaded", "needed")]
    return [*found, row["ratio"]]
