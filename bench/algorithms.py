"""Every algorithm of 3x3 convolutions of many shapes, forward and both gradients, beside what the cost model expects.

The last lines say how often the model picks the fastest, what its choices cost in all, and the constants that would fit
these figures best (nbcnn/cost.py holds those in use). Figures are those of `autotune`: weights out of the caches, and
transformed anew where a training step would.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import exp, log
from typing import Any

import numpy as np

from bench.options import add_out, finish, start
from bench.report import table
from nbcnn.autotune import seconds
from nbcnn.cost import FITTED, Constants, Layer, cycles
from nbcnn.graph import Graph, Node, Value
from nbcnn.ops.winograd import POINTS
from nbcnn.passes.algorithms import layer_of

__all__ = ["configure", "run"]

NAMES = {"implicit-gemm": 0, **POINTS}
"""Algorithm -> points, as the cost model names them."""
SIZES = ((32, 28), (32, 56), (64, 56), (64, 112), (128, 28), (128, 56), (256, 14), (256, 28), (512, 7), (512, 14))
"""Channels (more than a register holds, as Winograd's kernels need), and pixels on a side."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--quick", action="store_true", help="the smallest layers only: does it work at all?")
    add_out(parser, "algorithms")


def run(args: argparse.Namespace) -> int:
    machine = start(args)
    rows, samples = [], []
    batches, sizes = ([1], SIZES[:1]) if args.quick else (args.batches, SIZES)
    for batch, (channels, size) in product(batches, sizes):
        for title, node, graph in nodes(batch, channels, size):
            times = {name: seconds(node, graph, name) for name in NAMES}
            layer = layer_of(node, graph)
            samples.append((layer, times))
            chosen = pick(layer, FITTED)
            rows.append(
                {
                    "layer": f"{batch}x{channels}x{size}x{size}",
                    "direction": title,
                    **{f"{name} ms": 1e3 * time for name, time in times.items()},
                    "model's choice": chosen,
                    "costs": times[chosen] / min(times.values()),
                }
            )
    print(table(list(rows[0]), [list(row.values()) for row in rows]))
    better = fit(samples)
    for what, constants in (("in use", FITTED), ("fitted to these figures", better)):
        right, cost = judge(samples, constants)
        print(f"\nconstants {what}: {constants}")
        print(f"the fastest picked {right} of {len(samples)} times; time lost {cost - 1:.1%}")
    finish(args, machine, rows)
    return 0


def nodes(batch: int, channels: int, size: int) -> Iterator[tuple[str, Node, Graph]]:
    """A convolution and its gradients, as nodes of a lowered graph; then the forward one of a training step."""
    kind = np.dtype(np.float32)
    graph = Graph(opset={"": 17})
    for name in ("x", "y"):
        graph.values[name] = Value(name, kind, (batch, channels, size, size), "last")
    graph.values["w"] = Value("w", kind, (channels, channels, 3, 3))
    attrs = {"group": 1, "strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "depthwise": False}
    yield "forward", Node("Conv", ["x", "w"], ["y"], attrs), graph
    graph.nodes = [Node("SGDUpdate", ["w", "dw"], [], {"effect": True})]
    yield "forward, training", Node("Conv", ["x", "w"], ["y"], attrs), graph
    yield "input gradient, training", Node("ConvInputGrad", ["y", "w"], ["x"], attrs), graph
    yield "weight gradient", Node("ConvWeightGrad", ["x", "y"], ["w"], attrs), graph


def pick(layer: Layer, constants: Constants) -> str:
    """The model's choice."""
    return min(NAMES, key=lambda name: cycles(layer, NAMES[name], constants))


def judge(samples: list[tuple[Layer, dict[str, float]]], constants: Constants) -> tuple[int, float]:
    """How often the fastest is picked, and the geometric mean of chosen over fastest times."""
    right, lost = 0, 0.0
    for layer, times in samples:
        ratio = times[pick(layer, constants)] / min(times.values())
        right += ratio == 1.0
        lost += log(ratio)
    return right, exp(lost / len(samples))


def fit(samples: list[tuple[Layer, dict[str, float]]]) -> Constants:
    """Constants with which the model's choices lose the least time, and among these the ones that come closest to the
    measured ratios of Winograd's times to direct ones: a search that changes one at a time.
    """

    def distance(constants: Constants) -> float:
        off = 0.0
        for layer, times in samples:
            base = cycles(layer, 0, constants)
            for name, points in POINTS.items():
                expected = cycles(layer, points, constants) / base
                off += log(expected * times["implicit-gemm"] / times[name]) ** 2
        return log(judge(samples, constants)[1]) + 1e-5 * off

    found, best = FITTED, distance(FITTED)
    for step in (1.3, 1.1, 1.03):
        improved = True
        while improved:
            improved = False
            for candidate in _neighbours(found, step):
                value = distance(candidate)
                if value < best - 1e-9:
                    found, best, improved = candidate, value, True
    return found


def _neighbours(constants: Constants, step: float) -> Iterator[Constants]:
    for factor in (step, 1 / step):
        for name in ("product", "stream"):
            yield replace(constants, **{name: round(getattr(constants, name) * factor, 3)})
        for name in ("transform", "weights"):
            for points in getattr(constants, name):
                table: dict[int, Any] = dict(getattr(constants, name))
                table[points] = round(table[points] * factor, 1)
                yield replace(constants, **{name: table})
