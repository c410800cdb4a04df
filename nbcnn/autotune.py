"""Choose algorithms of convolutions by timing them, once for a machine and a layer.

What was measured is kept on disk beside the compiled kernels, under the machine's name: processor, SIMD width,
threads, and the source of the kernels, so that figures of another machine or of older kernels are never used.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nbcnn import kernels
from nbcnn.graph import Graph, Node, Value
from nbcnn.parameter import Parameter
from nbcnn.passes.pack import pack_weights

__all__ = ["Tuner", "layer_key", "seconds"]

FILE = "algorithms.json"
KERNELS = ("conv", "conv_grad", "winograd", "winograd_grad")
"""The kernels' files: figures hold for their source only."""
REPEATS = 5
EVICT = 48 << 20
"""Bytes that are written between two calls, because in a network a layer's weights have left the caches, too."""


def layer_key(node: Node, graph: Graph) -> str:
    """What decides how fast a node's algorithms are."""
    from nbcnn.passes.algorithms import layer_of

    shapes = [graph.values[name] for name in (*node.inputs[:2], node.outputs[0])]
    dims = " ".join("x".join(map(str, value.dims)) for value in shapes)
    pads = ",".join(map(str, node.attrs["pads"]))
    return f"{node.op} {dims} pads={pads} {shapes[0].dtype} {'changing' if layer_of(node, graph).changing else 'fixed'}"


class Tuner:
    """Chooses the fastest algorithm of each node (a `Choose` of passes/algorithms.py), timing what it does not know.

    threads: how many the kernels run on. folder: where figures are kept. machine: whose they are. A file that cannot be
    read counts as empty, one that cannot be written is done without.
    """

    def __init__(self, threads: int, folder: Path | None = None, machine: str | None = None) -> None:
        from nbcnn.kernels.cpu.cache import cache_folder

        self.path = (folder or cache_folder()) / FILE
        self.machine = machine or _machine(threads)
        self.known: dict[str, dict[str, float]] = _read(self.path).get(self.machine, {})

    def __call__(self, node: Node, graph: Graph, names: Sequence[str]) -> str:
        key = layer_key(node, graph)
        timings = self.known.get(key, {})
        if not set(names) <= set(timings):
            timings = {name: seconds(node, graph, name) for name in names}
            self._remember(key, timings)
        return min(names, key=lambda name: timings[name])

    def _remember(self, key: str, timings: dict[str, float]) -> None:
        whole = _read(self.path)
        self.known = {**whole.get(self.machine, {}), **self.known, key: timings}
        whole[self.machine] = self.known
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, delete=False, encoding="utf-8") as file:
                json.dump(whole, file, indent=1)
            os.replace(file.name, self.path)
        except OSError:
            return


def _read(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _machine(threads: int) -> str:
    from nbcnn.kernels import cpu
    from nbcnn.kernels.cpu.cache import source_stamp
    from nbcnn.kernels.cpu.width import WIDTH_BYTES
    from nbcnn.report.machine import cpu_model

    folder = Path(next(iter(cpu.__path__)))
    sources = "".join(source_stamp(folder / f"{name}.py")[:8] for name in KERNELS)
    return f"{cpu_model()}, {WIDTH_BYTES * 8} bits, {threads} threads, kernels {sources}"


def seconds(node: Node, graph: Graph, algorithm: str) -> float:
    """The fastest of a few calls of one node by one algorithm, its weights made ready anew where they change."""
    from nbcnn.passes.algorithms import layer_of

    calls = _calls(node, graph, algorithm, layer_of(node, graph).changing)
    sweep, fill = np.zeros(EVICT // 4, np.float32), kernels.load("cpu", "fill")
    best = float("inf")
    for _ in range(1 + REPEATS):
        fill(sweep, np.float32(1))  # on all threads, which then wait for the next call as within a network
        begin = time.perf_counter()
        for kernel, args in calls:
            kernel(*args)
        best = min(best, time.perf_counter() - begin)
    return best


def _calls(
    node: Node, graph: Graph, algorithm: str, changing: bool
) -> list[tuple[Callable[..., None], tuple[Any, ...]]]:
    """The kernel calls of a network of this node alone, on random numbers."""
    from nbcnn.kernels.cpu.threads import most
    from nbcnn.placement import Arena
    from nbcnn.plan import build_plan

    rng = np.random.default_rng(0)
    alone = Node(node.op, node.inputs[:2], list(node.outputs), {**node.attrs, "algorithm": algorithm}, name=node.name)
    small = Graph(opset=dict(graph.opset), nodes=[alone])
    for name in (*alone.inputs, *alone.outputs):
        value = graph.values[name]
        small.values[name] = Value(name, value.dtype, value.shape, value.layout)
    small.outputs = [small.values[alone.outputs[0]]]
    parameters = {}
    for index, name in enumerate(alone.inputs):
        value = small.values[name]
        if index == 1 and node.op != "ConvWeightGrad":
            small.initializers[name] = rng.standard_normal(value.dims).astype(value.dtype)
            value.layout = "plain"
            parameters[name] = Parameter(name, small.initializers[name], np.dtype(value.dtype))
        else:
            small.inputs.append(value)
    pack_weights(small, parameters)
    plan = build_plan(small, parameters, np.dtype(small.outputs[0].dtype), Arena(), threads=most())
    plan.compile()
    for value in small.inputs:
        plan.array(value.name)[...] = rng.standard_normal(value.physical)
    for prepared in plan.prepared:
        prepared.refresh()
    steps = [step for step, made in zip(plan.steps, plan.nodes, strict=True) if made is alone]
    if changing:
        every_step = [step for prepared in plan.prepared for step in prepared.steps()]
        steps = [(kernel, args) for kernel, args in every_step if kernel.__name__ == "winograd_weights"] + steps
    return steps
