"""Anonymous resident memory that loading a network and three runs at batch 1, or three training steps, add to a process
whose kernels are warm.

Each side is measured in processes of its own, three times; the middle one counts. Beside onnxruntime stands a run,
beside PyTorch a step (forward, cross-entropy, backward, SGD with momentum) in the layout in which it takes less.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from bench.networks import SHAPES, build, inputs, onnx_file
from bench.options import ROOT, add_out, finish, start
from bench.report import table
from bench.torch_probe import LAYOUTS
from nbcnn.report.probe import ask, measure_apart

__all__ = ["configure", "run"]

MEGA = 1e6
FIGURES = {"added": "MB", "loaded": "loaded", "needed": "needed", "peak": "peak", "load_peak": "load peak"}
OURS = "nbcnn"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nets", nargs="*", choices=sorted(SHAPES), default=["resnet50"], help="to run")
    parser.add_argument("--train", nargs="*", choices=sorted(SHAPES), default=["resnet18"], help="to train")
    parser.add_argument("--batch", type=int, default=8, help="of a training step")
    parser.add_argument("--processes", type=int, default=3, help="of each side")
    add_out(parser, "memory")
    parser.set_defaults(quick=False)


def run(args: argparse.Namespace) -> int:
    if sys.platform != "linux":
        raise SystemExit("resident memory is read from /proc, which only Linux has")
    machine = start(args)
    work = [(name, "run", 1) for name in args.nets] + [(name, "step", args.batch) for name in args.train]
    rows = []
    for name, kind, batch in work:
        print(f"{name} {kind} batch {batch} ...", flush=True)
        model = build(name)
        weights = sum(array.nbytes for array in model.graph.initializers.values())
        with onnx_file(model) as path:
            del model
            found = measurements(name, kind, batch, path, args.threads, args.processes)
        rows.append({"network": name, "kind": kind, "batch": batch, "weights_bytes": weights, **found})
    print("\n" + table(["network", "", "batch", "weights MB", "side", *FIGURES.values(), "ours / theirs"], cells(rows)))
    print(
        "MB: anonymous resident memory added by loading and three runs or steps; loaded: by loading alone; needed: what"
    )
    print(
        "stays of it after malloc_trim, which gives the system back what the process has free; peak: the most resident"
    )
    print("memory on the way, pages of files among it; load peak: that of loading")
    finish(args, machine, rows)
    return 0


def measurements(name: str, kind: str, batch: int, path: Path, threads: int, processes: int) -> dict[str, Any]:
    """All measurements of both sides, the sides in turn, and the ratio to the other side's less needy way."""
    peers = ["onnxruntime"] if kind == "run" else [f"PyTorch {layout}" for layout in LAYOUTS]
    found: dict[str, list[dict[str, int]]] = {side: [] for side in (OURS, *peers)}
    for _ in range(processes):
        for side, measured in found.items():
            measured.append(one(side, name, kind, batch, path, threads))
    middle = {side: median(measured, "added") for side, measured in found.items()}
    peer = min(peers, key=middle.__getitem__)
    return {"measurements": found, "peer": peer, "ratio": middle[OURS] / middle[peer]}


def one(side: str, name: str, kind: str, batch: int, path: Path, threads: int) -> dict[str, int]:
    """One measurement, in a new process."""
    if side.startswith("PyTorch"):
        command = [sys.executable, "-m", "bench.torch_probe", name, str(path), "--layout", side.split()[1]]
        return ask([*command, "--batch", str(batch), "--threads", str(threads)], ROOT)
    probe = "training" if kind == "step" else side
    answer = measure_apart(probe, path, threads, {"input": inputs(name, batch)})
    assert answer is not None, "this is Linux"
    return answer


def median(measured: list[dict[str, int]], key: str) -> float:
    return statistics.median(m[key] for m in measured)


def cells(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """A line for each side; the ratio stands with the side that it is to."""
    lines = []
    for row in rows:
        for side, measured in row["measurements"].items():
            figures = [median(measured, key) / MEGA for key in FIGURES]
            ratio = row["ratio"] if side == row["peer"] else None
            lines.append(
                [row["network"], row["kind"], row["batch"], row["weights_bytes"] / MEGA, side, *figures, ratio]
            )
    return lines
