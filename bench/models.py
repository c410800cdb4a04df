"""Inference of ResNet-18, ResNet-50, VGG-16, LeNet and some small networks beside onnxruntime: same file, same inputs,
same number of threads.

Each result is compared before anything is timed. GFLOP/s count the multiply-adds of direct convolution; the share is of
the measured ceiling, so that an algorithm with fewer multiplications (Winograd) may pass 1.
"""

from __future__ import annotations

import argparse
from typing import Any

from bench.files import FILES, MissingFile, open_file
from bench.networks import SHAPES, build, flops, inputs_of, moved_bytes, onnx_file
from bench.options import add_data, add_timing, ceiling, data_path, finish, plan_of, start
from bench.report import table
from nbcnn.report.agreement import agree
from nbcnn.report.peer import session
from nbcnn.report.timing import Comparison, Plan, Side, compare

__all__ = ["COLUMNS", "configure", "run"]

BATCHES = {"lenet": (1, 1000), **dict.fromkeys(FILES, (1,))}
NETS = ["resnet18", "resnet50", "vgg16", "lenet", *FILES]
OURS, THEIRS = "nbcnn", "onnxruntime"
COLUMNS = (
    "network",
    "batch",
    "nbcnn ms",
    "quartiles",
    "onnxruntime ms",
    "quartiles",
    "ratio",
    "blocks",
    "GFLOP/s",
    "share",
    "diff",
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nets", nargs="+", choices=sorted({*SHAPES, *FILES}), default=NETS)
    parser.add_argument("--batches", nargs="+", type=int, help="(default: 1 8, LeNet 1 1000, networks from files 1)")
    add_data(parser)
    add_timing(parser, "models")


def run(args: argparse.Namespace) -> int:
    machine = start(args, ceilings=True)
    rows = []
    for name in args.nets:
        try:
            model = open_file(name, data_path(args)) if name in FILES else build(name)
        except MissingFile as missing:
            print(f"{name} is skipped: {missing}")
            continue
        with onnx_file(model) as path:
            peer = session(path, args.threads)
        for batch in args.batches or BATCHES.get(name, (1, 8)):
            print(f"{name} batch {batch} ...", flush=True)
            rows.append(one(name, model, peer, batch, plan_of(args), ceiling(machine)))
        del model, peer
    print("\n" + table(COLUMNS, [cells(row) for row in rows]))
    print("ratio: onnxruntime's median time over ours; blocks: the least and the greatest ratio of neighbouring blocks")
    finish(args, machine, rows)
    return 0


def one(name: str, model: Any, peer: Any, batch: int, plan: Plan, peak: float | None) -> dict[str, Any]:
    """Compare one network at one batch size; returns the report's row."""
    feeds = {model.inputs[0].name: inputs_of(model, batch)}
    difference = agree(f"{name} batch {batch}", model.run(None, feeds)[0], peer.run(None, feeds)[0])
    sides = [Side(OURS, lambda: model.run(None, feeds)), Side(THEIRS, lambda: peer.run(None, feeds))]
    found = compare(sides, plan)
    rate = flops(model.graph, batch) / found[OURS].median / 1e9
    return {
        "network": name,
        "batch": batch,
        **summary(found, THEIRS),
        "bytes": moved_bytes(model.plan(feeds)),
        "gflops": rate,
        "share": None if peak is None else rate / peak,
        "difference": difference,
    }


def summary(found: Comparison, other: str) -> dict[str, Any]:
    """What a report's row says of two sides."""
    return {
        "timings": {name: timing.as_dict() for name, timing in found.timings.items()},
        "peer": other,
        "ratio": found.ratio(other, OURS),
        "ratio_blocks": found.ratio_range(other, OURS),
    }


def times(row: dict[str, Any], side: str) -> list[Any]:
    """The two cells of a side: the median, and the quartiles."""
    timing = row["timings"][side]
    low, high = timing["quartiles_ms"]
    return [timing["median_ms"], f"{low:.4g}-{high:.4g}"]


def ratios(row: dict[str, Any]) -> list[Any]:
    low, high = row["ratio_blocks"]
    return [row["ratio"], f"{low:.2f}-{high:.2f}"]


def cells(row: dict[str, Any]) -> list[Any]:
    head = [row["network"], row["batch"], *times(row, OURS), *times(row, THEIRS), *ratios(row)]
    return [*head, row["gflops"], row["share"], f"{row['difference']:.1e}"]
