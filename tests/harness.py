"""Run one operator through the whole engine (lowering, autodiff, plan, kernels) on given arrays, for comparison with
the oracle.

`Case` describes a one-node network. Inputs listed in `weights` become initializers, the others are fed. `train` is
how the Trainer lowers it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbcnn import executor
from nbcnn.autodiff import differentiate
from nbcnn.devices import Device, find_device
from nbcnn.graph import Graph, Node, Value
from nbcnn.lower import lower_for_inference, lower_for_training
from nbcnn.parameter import Parameter
from nbcnn.passes.algorithms import Choose, choose_algorithms, direct
from nbcnn.passes.pack import pack_weights
from nbcnn.passes.specialize import Mode
from nbcnn.placement import Arena
from nbcnn.plan import Plan, build_plan

THREADS = 2
DEVICE = os.environ.get("NBCNN_TEST_DEVICE", "cpu")
"""Where cases run that do not say so."""


class Forced:
    """Chooses one algorithm wherever it can be had, and counts how often that was."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm, self.count = algorithm, 0

    def __call__(self, node: Node, graph: Graph, names: Sequence[str]) -> str:
        self.count += 1
        return self.algorithm if self.algorithm in names else names[0]


@dataclass
class Case:
    """op: the operator. inputs: arrays, None for one left out. outputs: how many. opset: of the file that is
    simulated. choose: picks the algorithm of convolutions. device: where it runs, a GPU in full precision.
    """

    op: str
    inputs: list[np.ndarray | None]
    attrs: dict[str, Any] = field(default_factory=dict)
    weights: tuple[int, ...] = ()
    outputs: int = 1
    opset: int = 17
    dtype: Any = np.float32
    choose: Choose = direct
    device: str = DEVICE

    def graph(self) -> Graph:
        names = [f"i{k}" if a is not None else "" for k, a in enumerate(self.inputs)]
        graph = Graph(opset={"": self.opset})
        for k, array in enumerate(self.inputs):
            if array is not None and k in self.weights:
                graph.initializers[f"i{k}"] = array
            elif array is not None:
                graph.inputs.append(Value(f"i{k}", array.dtype, array.shape))
        outputs = [f"o{k}" for k in range(self.outputs)]
        graph.nodes = [Node(self.op, names, outputs, dict(self.attrs), name="node")]
        graph.outputs = [Value(name) for name in outputs]
        return graph

    def feeds(self) -> dict[str, np.ndarray]:
        return {f"i{k}": a for k, a in enumerate(self.inputs) if a is not None and k not in self.weights}

    def parameters(self) -> dict[str, Parameter]:
        dtype = np.dtype(self.dtype)
        return {
            f"i{k}": Parameter(f"i{k}", a, dtype, self.where())
            for k, a in enumerate(self.inputs)
            if a is not None and k in self.weights and a.dtype.kind == "f"
        }

    def where(self) -> Device:
        return find_device(self.device, precision="fp32")

    def _plan(self, graph: Graph, feeds: dict[str, np.ndarray], parameters: dict[str, Parameter]) -> Plan:
        plan = build_plan(graph, parameters, np.dtype(self.dtype), Arena(), self.where(), threads=THREADS)
        self.fed = feeds
        return plan

    def execute(self, plan: Plan) -> list[np.ndarray]:
        """Run a plan of this case on its inputs; the outputs, in memory order."""
        for value in plan.graph.inputs:
            plan.feed(value.name, self.fed[value.name])
        executor.execute(plan)
        return [plan.fetch(v.name) for v in plan.graph.outputs]

    def _shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        return {k: (a.shape, a.dtype) for k, a in self.feeds().items()}

    def run(self) -> list[np.ndarray]:
        """The outputs, in ONNX order, of an inference plan."""
        return self.execute(self.plan())

    def plan(self) -> Plan:
        """The plan of run."""
        parameters = self.parameters()
        graph = lower_for_inference(
            self.graph(),
            self._shapes(),
            parameters,
            np.dtype(self.dtype),
            choose=self.choose,
            backend=self.where().backend,
        )
        return self._plan(graph, self.feeds(), parameters)

    def run_training(
        self, dys: list[np.ndarray], wanted: tuple[int, ...] = (0,)
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Outputs of a training plan, and the gradients of sum(dy * output) by the wanted inputs, all in ONNX order."""
        plan = self.training_plan(dys, wanted)
        graph = plan.graph
        arrays = [to_onnx_order(a, v.layout) for a, v in zip(self.execute(plan), graph.outputs, strict=True)]
        return arrays[: self.outputs], arrays[self.outputs :]

    def training_plan(self, dys: list[np.ndarray], wanted: tuple[int, ...] = (0,)) -> Plan:
        """The plan of run_training, with its inputs filled in."""
        source, parameters, dtype = self.graph(), self.parameters(), np.dtype(self.dtype)
        names, backend = source.output_names(), self.where().backend
        graph = lower_for_training(source, self._shapes(), dtype, names, Mode(train=True), backend=backend)
        results = list(graph.outputs)
        seeds, feeds = {}, self.feeds()
        for k, (value, dy) in enumerate(zip(results, dys, strict=False)):
            graph.inputs.append(Value(f"dy{k}", dtype, value.dims))
            graph.values[f"dy{k}"] = graph.inputs[-1]
            seeds[value.name] = f"dy{k}"
            feeds[f"dy{k}"] = dy
        found = differentiate(graph, seeds, [f"i{k}" for k in wanted])
        grads = [graph.values[found[f"i{k}"]] for k in wanted]
        graph.outputs = [*results, *grads]
        choose_algorithms(graph, self.choose)
        pack_weights(graph, parameters)
        plan = self._plan(graph, feeds, parameters)
        for value in graph.inputs:
            plan.feed(value.name, feeds[value.name])
        return plan


def to_onnx_order(array: np.ndarray, layout: str) -> np.ndarray:
    return np.moveaxis(array, -1, 1) if layout == "last" else array
