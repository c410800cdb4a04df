"""The convolutions of ResNet-50 and VGG-16 one by one, forward and both gradients: GFLOP/s, and the share of the
measured ceiling.

Each layer's results are compared with PyTorch's before it is timed. GFLOP/s count the multiply-adds of direct
convolution.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from statistics import geometric_mean
from typing import Any

import numpy as np

from bench.layers import DIRECTIONS, BoundLayer, Layer, layers_of
from bench.networks import SHAPES, build
from bench.options import add_timing, ceiling, finish, plan_of, start
from bench.report import table
from nbcnn.report.agreement import agree
from nbcnn.report.timing import Plan, Side, compare

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nets", nargs="+", choices=sorted(SHAPES), default=["resnet50", "vgg16"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--only", default="", help="only layers whose description contains this text, such as 3x3")
    add_timing(parser, "kernels")
    parser.set_defaults(seconds=0.3, blocks=2)


def run(args: argparse.Namespace) -> int:
    machine = start(args, ceilings=True)
    if not find_spec("torch"):
        print("torch is not installed: results are not checked")
    rows = []
    for name in args.nets:
        chosen = {layer: count for layer, count in layers_of(build(name).graph).items() if args.only in layer.label}
        for batch in args.batches:
            group = [one(layer, batch, count, plan_of(args), ceiling(machine)) for layer, count in chosen.items()]
            group = [{"network": name, "batch": batch, **row} for row in group]
            print(f"\n{name}, batch {batch}\n\n{layers_table(group)}", flush=True)
            rows += group
    finish(args, machine, rows)
    return 0


def one(layer: Layer, batch: int, count: int, plan: Plan, peak: float | None) -> dict[str, Any]:
    """Time one layer; returns the report's row. count: how often the network has it."""
    bound = BoundLayer(layer, batch)
    results = bound.run()
    if find_spec("torch"):
        for what, ours, theirs in zip(DIRECTIONS, results, expected(bound), strict=True):
            agree(f"{layer.label}, batch {batch}, {what}", ours, theirs)
    row: dict[str, Any] = {"layer": layer.label, "count": count}
    row |= {"gflop": layer.flops(batch) / 1e9, "bytes": layer.bytes(batch)}
    for direction in DIRECTIONS:
        timing = compare([Side(direction, bound.call(direction))], plan)[direction]
        rate = layer.flops(batch) / timing.median / 1e9
        share = None if peak is None else rate / peak
        algorithm = bound.algorithm(direction)
        row[direction] = {"gflops": rate, "share": share, "algorithm": algorithm, **timing.as_dict()}
    return row


def expected(bound: BoundLayer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, dx, dw as PyTorch computes them."""
    import torch

    layer = bound.layer
    x, w = (torch.from_numpy(a).requires_grad_() for a in (bound.x, bound.w))
    half = len(layer.pads) // 2
    if layer.pads[:half] != layer.pads[half:]:
        raise ValueError(f"{layer.label}: PyTorch has no pads that differ at the two ends, {layer.pads}")
    y = torch.nn.functional.conv2d(x, w, None, layer.strides, layer.pads[:half], layer.dilations, layer.group)
    y.backward(torch.from_numpy(bound.dy))
    assert x.grad is not None and w.grad is not None
    return y.detach().numpy(), x.grad.numpy(), w.grad.numpy()


def layers_table(rows: list[dict[str, Any]]) -> str:
    """A line for every layer, and one for all of them as often as the network has them."""
    columns = ["layer", "times", "GFLOP"]
    for direction in DIRECTIONS:
        columns += [direction, "ms", "GFLOP/s", "share"]
    body: list[list[Any]] = []
    for row in rows:
        cells: list[Any] = [row["layer"], row["count"], row["gflop"]]
        for direction in DIRECTIONS:
            found = row[direction]
            cells += [found["algorithm"], found["median_ms"], found["gflops"], found["share"]]
        body.append(cells)
    if rows:
        body += [total(rows), mean(rows)]
    return table(columns, body)


def mean(rows: list[dict[str, Any]]) -> list[Any]:
    """The geometric mean of all lines above, each counted once."""
    cells: list[Any] = ["geometric mean", "", ""]
    for direction in DIRECTIONS:
        rate = geometric_mean(row[direction]["gflops"] for row in rows)
        share = rows[0][direction]["share"]
        cells += ["", "", rate, None if share is None else rate * share / rows[0][direction]["gflops"]]
    return cells


def total(rows: list[dict[str, Any]]) -> list[Any]:
    work = sum(row["gflop"] * row["count"] for row in rows)
    cells: list[Any] = ["all", sum(row["count"] for row in rows), work]
    for direction in DIRECTIONS:
        ms = sum(row[direction]["median_ms"] * row["count"] for row in rows)
        rate, share = work / ms * 1e3, rows[0][direction]["share"]
        cells += ["", ms, rate, None if share is None else rate * share / rows[0][direction]["gflops"]]
    return cells
