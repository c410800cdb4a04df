"""Operators that compute little for what they read and write, one by one, on arrays larger than the caches: GB/s, and
the share of the memory triad.

Counted are the bytes that must move: every input is read once and every output written once. Statistics of a batch
norm need their input before its result, so that is two readings, each counted in its own line. An output that takes
over an input's memory is written there. The products of Gemm at batch 1 read their weights once. While training, a
maximum keeps a byte for each window, which its gradient reads instead of the input.

The triad is timed beside every operator, in alternating blocks, because the memory of a machine that is shared with
others is faster at one moment than at the next: with two cores it was 55 GB/s, and 35 a minute later.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from math import pi
from typing import Any

import numpy as np

from bench.options import add_timing, finish, plan_of, start
from bench.report import table
from nbcnn.autodiff import differentiate
from nbcnn.devices import HOST, Device
from nbcnn.executor import execute
from nbcnn.graph import Graph, Node, Value
from nbcnn.kernels import load
from nbcnn.lower import lower_for_inference, lower_for_training
from nbcnn.model import Model
from nbcnn.passes.halves import keep_in_halves
from nbcnn.passes.pack import pack_weights
from nbcnn.passes.specialize import Mode
from nbcnn.plan import Plan
from nbcnn.report.ceiling import triad_call
from nbcnn.report.timing import Side, compare

__all__ = ["CASES", "UPDATES", "Bound", "Case", "bound", "configure", "run"]

FLOAT = np.dtype(np.float32)
PICTURES = (8, 64, 224, 224)
"""Activations of 103 MB."""
WINDOW = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
UPDATES = {"sgd_update": (4, [0.1, 0, 0, 0, 0]), "adam_update": (4, [0.1, 1, 0.9, 0.999, 1e-8, 1, 0, 0])}

Call = Callable[[], None]
Nodes = tuple[tuple[str, tuple[str, ...], tuple[str, ...], dict[str, Any]], ...]
"""Operator, inputs, outputs and attributes of each."""


@dataclass(frozen=True)
class Case:
    """A network of a few nodes over one activation, `x` to `y`. shape: of x. weights: names and shapes. times: the
    operators (by the end of their names) whose kernels are timed; of gradients too, where `train`. moved: bytes, by
    those of x and y; taps: and a byte for each element of y.
    """

    name: str
    nodes: Nodes
    times: str
    moved: Callable[[int, int], int]
    shape: tuple[int, ...] = PICTURES
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)
    train: bool = False
    taps: bool = False


def _one(op: str, *more: str, **attrs: Any) -> Nodes:
    return ((op, ("x", *more), ("y",), attrs),)


def _numbers(**values: float) -> Nodes:
    return tuple(("Constant", (), (name,), {"value": np.array(value, FLOAT)}) for name, value in values.items())


CHANNELS = PICTURES[1:2]
NORM = dict.fromkeys(("scale", "bias", "mean", "var"), CHANNELS)
NORM_RELU = (
    ("BatchNormalization", ("x", *NORM), ("z",), {}),
    ("Relu", ("z",), ("y",), {}),
)
SWISH = (("Sigmoid", ("x",), ("z",), {}), ("Mul", ("x", "z"), ("y",), {}))
MISH = (("Softplus", ("x",), ("s",), {}), ("Tanh", ("s",), ("z",), {}), ("Mul", ("x", "z"), ("y",), {}))
HARD_SWISH = (
    *_numbers(three=3.0, zero=0.0, six=6.0),
    ("Add", ("x", "three"), ("s",), {}),
    ("Clip", ("s", "zero", "six"), ("z",), {}),
    ("Mul", ("x", "z"), ("p",), {}),
    ("Div", ("p", "six"), ("y",), {}),
)
GELU = (
    *_numbers(root=2**0.5, one=1.0, half=0.5),
    ("Div", ("x", "root"), ("s",), {}),
    ("Erf", ("s",), ("e",), {}),
    ("Add", ("e", "one"), ("z",), {}),
    ("Mul", ("x", "z"), ("p",), {}),
    ("Mul", ("p", "half"), ("y",), {}),
)
GELU_TANH = (
    *_numbers(half=0.5, three=3.0, cubic=0.044715, slope=(2 / pi) ** 0.5, one=1.0),
    ("Mul", ("half", "x"), ("h",), {}),
    ("Pow", ("x", "three"), ("c",), {}),
    ("Mul", ("cubic", "c"), ("b",), {}),
    ("Add", ("x", "b"), ("s",), {}),
    ("Mul", ("slope", "s"), ("u",), {}),
    ("Tanh", ("u",), ("t",), {}),
    ("Add", ("one", "t"), ("z",), {}),
    ("Mul", ("h", "z"), ("y",), {}),
)
ROWS, WIDE = (25600, 1024), (1, 25088)

CASES = (
    Case("Relu", _one("Relu"), "Relu|Clip|Clamp", lambda x, y: x + y),
    Case("Sigmoid", _one("Sigmoid"), "Sigmoid", lambda x, y: x + y),
    Case("HardSwish", _one("HardSwish"), "HardSwish", lambda x, y: x + y),
    Case("Tanh", _one("Tanh"), "Tanh", lambda x, y: x + y),
    Case("Softplus", _one("Softplus"), "Softplus", lambda x, y: x + y),
    Case("Log", _one("Log"), "Log", lambda x, y: x + y),
    Case("Sigmoid, Mul", SWISH, "Chain", lambda x, y: x + y),
    Case("Softplus, Tanh, Mul", MISH, "Chain", lambda x, y: x + y),
    Case("Add, Clip, Mul, Div", HARD_SWISH, "Chain", lambda x, y: x + y),
    Case("Div, Erf, Add, Mul, Mul", GELU, "Chain", lambda x, y: x + y),
    Case("Mul, Pow, ... Tanh, Add, Mul", GELU_TANH, "Chain", lambda x, y: x + y),
    Case("Add", _one("Add", "x"), "Add", lambda x, y: x + y),
    Case("MaxPool", _one("MaxPool", **WINDOW), "MaxPool", lambda x, y: x + y),
    Case("AveragePool", _one("AveragePool", **WINDOW), "AveragePool", lambda x, y: x + y),
    Case("GlobalAveragePool", _one("GlobalAveragePool"), "GlobalAveragePool", lambda x, y: x + y),
    Case("Softmax", _one("Softmax", axis=-1), "Softmax", lambda x, y: x + y, ROWS),
    Case("Relu gradient", _one("Relu"), "Grad|Unclamp", lambda x, y: 2 * y + x, train=True),
    Case("Sigmoid, Mul gradient", SWISH, "Chain", lambda x, y: 4 * x + y, train=True),
    Case("MaxPool, taps kept", _one("MaxPool", **WINDOW), "MaxPool", lambda x, y: x + y, train=True, taps=True),
    Case("MaxPool gradient", _one("MaxPool", **WINDOW), "PoolGrad", lambda x, y: x + y, train=True, taps=True),
    Case("AveragePool gradient", _one("AveragePool", **WINDOW), "PoolGrad", lambda x, y: x + y, train=True),
    Case("Softmax gradient", _one("Softmax", axis=-1), "SoftmaxGrad", lambda x, y: 3 * x, ROWS, train=True),
    Case("BatchNorm, Relu", NORM_RELU, "BatchNormalization", lambda x, y: 2 * x + y, weights=NORM, train=True),
    Case("BatchNorm sums", NORM_RELU, "NormalizationSums", lambda x, y: x + y, weights=NORM, train=True),
    Case("BatchNorm gradient", NORM_RELU, "NormalizationInputGrad", lambda x, y: 2 * x + y, weights=NORM, train=True),
    Case("Gemm 25088 to 4096, 1 row", _one("Gemm", "w", transB=1), "Gemm", lambda x, y: 4096 * x, WIDE,
         {"w": (4096, 25088)}),
    Case("Gemm 4096 to 4096, 1 row", _one("Gemm", "w", transB=1), "Gemm", lambda x, y: 4096 * x, (1, 4096),
         {"w": (4096, 4096)}),
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default="", help="only lines that contain this text")
    add_timing(parser, "bandwidth")
    parser.set_defaults(seconds=0.5, blocks=3)


def run(args: argparse.Namespace) -> int:
    machine = start(args, ceilings=True)
    rows: list[dict[str, Any]] = []
    triad = triad_call(args.threads)
    for case in CASES:
        if args.only in case.name:
            found = bound(case)
            rows.append(_row(args, case.name, found.compute, found.moved, triad))
    for kernel, (count, settings) in UPDATES.items():
        for momentum in (False, True) if kernel == "sgd_update" else (True,):
            name = f"{kernel}, momentum" if kernel == "sgd_update" and momentum else kernel
            if args.only in name:
                rows.append(_row(args, name, *_update(kernel, count, settings, momentum), triad))
    columns = {
        "MB": "megabytes",
        "ms": "median_ms",
        "GB/s": "gbytes",
        "triad": "triad_gbytes",
        "share of triad": "share",
    }
    shown = [{**row, "megabytes": row["bytes"] / 1e6} for row in rows]
    print(table(["operator", *columns], [[row[key] for key in ("operator", *columns.values())] for row in shown]))
    finish(args, machine, rows)
    return 0


def _row(args: argparse.Namespace, name: str, call: Call, moved: int, triad: tuple[Call, int]) -> dict[str, Any]:
    """triad: a call of it, and the bytes that it moves."""
    times = compare([Side(name, call), Side("triad", triad[0])], plan_of(args))
    rate, peak = moved / times[name].median / 1e9, triad[1] / times["triad"].median / 1e9
    measured = {"bytes": moved, "gbytes": rate, "triad_gbytes": peak, "share": rate / peak}
    return {"operator": name, **measured, **times[name].as_dict()}


@dataclass(frozen=True)
class Bound:
    """A case's plan, with inputs, that has been run once. compute: makes again what is timed. moved: bytes. feeds: the
    plan's inputs in ONNX order, and the weights.
    """

    plan: Plan
    compute: Callable[[], None]
    moved: int
    feeds: dict[str, np.ndarray]


def bound(case: Case, seed: int = 0, device: Device = HOST) -> Bound:
    """Bind a case on a device, and run it. In precisions of 16 bits x, y and their gradients are kept in those."""
    rng = np.random.default_rng(seed)
    weights = {name: rng.random(shape, dtype=FLOAT) + np.float32(0.1) for name, shape in case.weights.items()}
    nodes = [
        Node(op, list(inputs), list(outputs), dict(attrs), name="node") for op, inputs, outputs, attrs in case.nodes
    ]
    graph = Graph("case", nodes, [Value("x", FLOAT, case.shape)], [Value("y"), Value("x")], weights, opset={"": 17})
    model, x = Model(graph, device=device), rng.standard_normal(case.shape, dtype=FLOAT)
    plan = (_training_plan if case.train else _inference_plan)(model, case.shape)
    feeds = dict(weights)
    for value in plan.graph.inputs:
        given = x if value.name == "x" else rng.standard_normal(value.dims, dtype=FLOAT)
        feeds[value.name] = given.astype(value.stored).astype(FLOAT)
        plan.feed(value.name, _in_memory(feeds[value.name], value))
    execute(plan)
    ends = tuple(case.times.split("|"))
    steps = [step for step, node in zip(plan.steps, plan.nodes, strict=True) if node.op.endswith(ends)]
    if not steps:
        raise ValueError(f"{case.name}: none of {sorted({node.op for node in plan.nodes})} is timed")

    def compute() -> None:
        for kernel, args in steps:
            kernel(*args)

    y = next(v for v in plan.graph.inputs if v.name == "dy") if case.train else plan.graph.outputs[0]
    moved = case.moved(_bytes(plan.graph.values["x"]), _bytes(y)) + (y.size if case.taps else 0)
    return Bound(plan, compute, moved, feeds)


def _bytes(value: Value) -> int:
    assert value.stored is not None
    return value.size * value.stored.itemsize


def _in_memory(array: np.ndarray, value: Value) -> np.ndarray:
    """An array in ONNX order as the plan has it."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if value.layout == "last" else array


def _inference_plan(model: Model, shape: tuple[int, ...]) -> Plan:
    feeds, device = {"x": (shape, FLOAT)}, model.device
    graph = lower_for_inference(
        model.graph, feeds, model.parameters, FLOAT, choose=model.chooser(), backend=device.backend
    )
    keep_in_halves(graph, device.kept, edges=True)
    return model.build(graph)


def _training_plan(model: Model, shape: tuple[int, ...]) -> Plan:
    """Forward and backward of a whole network: x, dy -> the gradient by x."""
    feeds, backend = {"x": (shape, FLOAT)}, model.device.backend
    graph = lower_for_training(model.graph, feeds, FLOAT, ["y"], Mode(True), backend=backend)
    result = graph.outputs[0]
    graph.values["dy"] = Value("dy", FLOAT, result.dims)
    graph.inputs.append(graph.values["dy"])
    found = differentiate(graph, {result.name: "dy"}, ["x"])
    graph.outputs = [graph.values[found["x"]]]
    keep_in_halves(graph, model.device.kept, edges=True)
    pack_weights(graph, model.parameters)
    return model.build(graph)


def _update(kernel: str, count: int, settings: list[float], momentum: bool) -> tuple[Callable[[], None], int]:
    """A step of an optimizer on a weight of 100 MB."""
    size = 25_000_000
    rng = np.random.default_rng(0)
    moments = 2 if kernel == "adam_update" else int(momentum)
    w, dw, *states = (rng.random(size, dtype=FLOAT) for _ in range(2 + moments))
    hyper = np.array(settings)
    hyper[1] = 0.9 if momentum and kernel == "sgd_update" else hyper[1]
    states = states or [np.empty(0, FLOAT)]
    update = load("cpu", kernel)
    return lambda: update(w, dw, *states, hyper, size), w.nbytes * (3 + 2 * moments)
