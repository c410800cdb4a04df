"""One training step beside PyTorch: forward, cross-entropy, backward, SGD with momentum, batch norm on batch
statistics.

Both start from the same weights, and the losses of the first two steps must agree: the second rests on the gradients of
the first. PyTorch runs with contiguous tensors and with channels_last ones; the ratio is to the faster.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from bench.models import OURS, ratios, summary, times
from bench.networks import SHAPES, build, flops, inputs, labels, moved_bytes
from bench.options import add_timing, ceiling, finish, plan_of, start
from bench.peers import TorchStep
from bench.report import table
from nbcnn.executor import recording
from nbcnn.report.agreement import agree_scalar
from nbcnn.report.timing import Plan, Side, compare

__all__ = ["configure", "run"]

BATCHES = {"lenet": 1000}
LAYOUTS = {"torch": False, "torch channels_last": True}
LR, MOMENTUM = 1e-3, 0.9
LOSS_TOLERANCES = (1e-4, 2e-2)
"""Relative, of the losses of the first two steps. The second only tells a wrong gradient from a right one: ResNet-50 on
two pictures amplifies float32's rounding so much that PyTorch's two layouts differ by 6e-3 there (in float64 all agree
to 1e-12).
"""

COLUMNS = (
    "network",
    "batch",
    "nbcnn ms",
    "quartiles",
    "PyTorch ms",
    "quartiles",
    "layout",
    "ratio",
    "blocks",
    "GFLOP/s",
    "share",
    "loss",
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nets", nargs="+", choices=sorted(SHAPES), default=["lenet", "resnet18", "resnet50", "vgg16"])
    parser.add_argument("--batch", type=int, help="(default: 8, LeNet 1000)")
    add_timing(parser, "training")


def run(args: argparse.Namespace) -> int:
    machine = start(args, ceilings=True)
    rows = []
    for name in args.nets:
        batch = args.batch or BATCHES.get(name, 8)
        print(f"{name} batch {batch} ...", flush=True)
        rows.append(one(name, batch, args.threads, plan_of(args), ceiling(machine)))
    print("\n" + table(COLUMNS, [cells(row) for row in rows]))
    print(
        "ratio: PyTorch's median time, in its faster layout, over ours; loss: relative difference of two steps' losses"
    )
    finish(args, machine, rows)
    return 0


def one(name: str, batch: int, threads: int, plan: Plan, peak: float | None) -> dict[str, Any]:
    """Compare one network's training step; returns the report's row."""
    from nbcnn.optim import SGD
    from nbcnn.trainer import Trainer

    model = build(name)
    weights: dict[str, np.ndarray] = dict(model.graph.initializers)
    x, t = inputs(name, batch), labels(1000 if name != "lenet" else 10, batch)
    # forward, and as much again for each of the two gradients; the first layer's input needs none, which is little
    work = 3 * flops(model.graph, batch)
    silent = [node.name for node in model.graph.nodes if node.op == "Dropout"]
    trainer = Trainer(model, optimizer=SGD(lr=LR, momentum=MOMENTUM), freeze=silent)
    with recording() as records:
        losses = [trainer.step(x, t) for _ in LOSS_TOLERANCES]
    plan_of_step = records[0].plan
    sides, differences = [Side(OURS, lambda: trainer.step(x, t))], []
    for side, last in LAYOUTS.items():
        step = TorchStep(name, weights, x, t, lr=LR, momentum=MOMENTUM, threads=threads, channels_last=last)
        for number, (loss, tolerance) in enumerate(zip(losses, LOSS_TOLERANCES, strict=True), 1):
            what = f"{name} batch {batch}, {side}, loss of step {number}"
            differences.append(agree_scalar(what, loss, step(), tolerance))
        sides.append(Side(side, step))
    found = compare(sides, plan)
    rate = work / found[OURS].median / 1e9
    return {
        "network": name,
        "batch": batch,
        **summary(found, found.fastest(list(LAYOUTS))),
        "bytes": moved_bytes(plan_of_step),
        "gflops": rate,
        "share": None if peak is None else rate / peak,
        "difference": max(differences),
    }


def cells(row: dict[str, Any]) -> list[Any]:
    layout = "channels_last" if LAYOUTS[row["peer"]] else "contiguous"
    head = [row["network"], row["batch"], *times(row, OURS), *times(row, row["peer"]), layout, *ratios(row)]
    return [*head, row["gflops"], row["share"], f"{row['difference']:.1e}"]
