"""Single convolutions, taken from whole networks, bound so that forward and both gradients can be called one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from bench.networks import lowered
from nbcnn.autodiff import differentiate
from nbcnn.devices import HOST, Device
from nbcnn.executor import execute
from nbcnn.graph import Graph, Node, Value
from nbcnn.lower import lower_for_training
from nbcnn.model import Model
from nbcnn.passes.algorithms import choose_algorithms
from nbcnn.passes.halves import keep_in_halves
from nbcnn.passes.pack import pack_weights
from nbcnn.passes.specialize import Mode
from nbcnn.plan import Plan

__all__ = ["DIRECTIONS", "FLOAT", "BoundLayer", "Layer", "layers_of"]

DIRECTIONS = {"forward": "Conv", "input gradient": "ConvInputGrad", "weight gradient": "ConvWeightGrad"}
"""Direction -> the operator whose kernels are timed, or what its name ends with where a pass has replaced it by another
form; changes of layout at the edges are left out.
"""

FLOAT = np.dtype(np.float32)


@dataclass(frozen=True)
class Layer:
    """A convolution without bias. x: a sample (C, H, W). w: weights (M, C/group, kH, kW). y: a result (M, H', W')."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    y: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    group: int

    def flops(self, batch: int) -> int:
        """Operations of each direction, two for each multiply-add."""
        return 2 * batch * prod(self.y) * prod(self.w[1:])

    def bytes(self, batch: int, kept: np.dtype = FLOAT) -> int:
        """What each direction must move at least: input, result (or their gradients) in this type, and weights."""
        return kept.itemsize * batch * (prod(self.x) + prod(self.y)) + FLOAT.itemsize * prod(self.w)

    @property
    def label(self) -> str:
        c, h, w = self.x
        kernel = "x".join(map(str, self.w[2:]))
        return f"{c}x{h}x{w} -> {self.w[0]}, {kernel}" + (f" /{self.strides[0]}" if max(self.strides) > 1 else "")

    def attrs(self) -> dict[str, object]:
        return {
            "kernel_shape": list(self.w[2:]),
            "strides": list(self.strides),
            "pads": list(self.pads),
            "dilations": list(self.dilations),
            "group": self.group,
        }

    def graph(self, weights: np.ndarray, batch: int) -> Graph:
        """A network of this layer alone: x -> y, with weights w."""
        return Graph(
            name="layer",
            opset={"": 17},
            nodes=[Node("Conv", ["x", "w"], ["y"], self.attrs(), name="layer")],
            inputs=[Value("x", FLOAT, (batch, *self.x))],
            outputs=[Value("y", FLOAT, (batch, *self.y))],
            initializers={"w": weights},
        )


def layers_of(graph: Graph) -> dict[Layer, int]:
    """The convolutions of a network in the order of their first use, each with how often it comes."""
    found: dict[Layer, int] = {}
    whole = lowered(graph, 1)
    for node in whole.nodes:
        if node.op == "Conv":
            x, w, y = (whole.values[name].dims for name in (*node.inputs[:2], node.outputs[0]))
            strides, pads, dilations = (tuple(node.attrs[key]) for key in ("strides", "pads", "dilations"))
            layer = Layer(x[1:], w, y[1:], strides, pads, dilations, int(node.attrs["group"]))
            found[layer] = found.get(layer, 0) + 1
    return found


class BoundLayer:
    """A layer at one batch size on one device, with random input, weights and output gradient.

    x, dy: the input (N, C, H, W) and the output's gradient. In precisions of 16 bits they are rounded to those, and
    kept in them, and so are y and dx; what cannot be multiplied in 16 bits stays whole.
    """

    def __init__(self, layer: Layer, batch: int, seed: int = 0, device: Device = HOST) -> None:
        rng = np.random.default_rng(seed)
        self.layer, self.batch = layer, batch
        self.x = self._rounded(rng.standard_normal((batch, *layer.x), dtype=FLOAT), device)
        self.w = rng.standard_normal(layer.w, dtype=FLOAT) / np.float32(prod(layer.w[1:]) ** 0.5)
        self.dy = self._rounded(rng.standard_normal((batch, *layer.y), dtype=FLOAT), device)
        self.model = Model(layer.graph(self.w, batch), device=device)
        self.training = self._training_plan()
        self.inference = self.training if device.kept else self.model.plan({"x": self.x})

    @staticmethod
    def _rounded(array: np.ndarray, device: Device) -> np.ndarray:
        return array.astype(device.kept or FLOAT).astype(FLOAT)

    def _training_plan(self) -> Plan:
        feeds = {"x": (self.x.shape, FLOAT)}
        graph = lower_for_training(self.model.graph, feeds, FLOAT, ["y"], Mode(True), backend=self.model.device.backend)
        result = graph.outputs[0]
        graph.values["dy"] = Value("dy", FLOAT, result.dims)
        graph.inputs.append(graph.values["dy"])
        found = differentiate(graph, {result.name: "dy"}, ["x", "w"])
        results = [result] if self.model.device.kept else []  # elsewhere a plan for inference has it
        graph.outputs = [*results, graph.values[found["x"]], graph.values[found["w"]]]
        choose_algorithms(graph, self.model.chooser())
        keep_in_halves(graph, self.model.device.kept, edges=True)
        pack_weights(graph, self.model.parameters)
        return self.model.build(graph)

    def run(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """y, dx, dw. Also fills the plans' memory, so that what is timed afterwards computes with ordinary numbers."""
        ys = [] if self.inference is self.training else self.model.run(None, {"x": self.x})
        self.training.feed("x", self.x)
        self.training.feed("dy", self.dy)
        execute(self.training)
        y, dx, dw = (*ys, *(self._onnx_order(value) for value in self.training.graph.outputs))
        return y, dx, dw

    def _onnx_order(self, value: Value) -> np.ndarray:
        array = self.training.fetch(value.name)
        return np.ascontiguousarray(np.moveaxis(array, -1, 1) if value.layout == "last" else array)

    def algorithm(self, direction: str) -> str | None:
        """How a direction is computed."""
        plan = self.inference if direction == "forward" else self.training
        return next(node.attrs.get("algorithm") for node in plan.nodes if node.op.endswith(DIRECTIONS[direction]))

    def call(self, direction: str) -> Callable[[], None]:
        """A function that computes one direction, without changes of layout. `run` must have been called."""
        plan = self.inference if direction == "forward" else self.training
        op = DIRECTIONS[direction]
        steps = [step for step, node in zip(plan.steps, plan.nodes, strict=True) if node.op.endswith(op)]
        if not steps:
            raise ValueError(f"no step of this plan is a {op}")

        def compute() -> None:
            for kernel, args in steps:
                kernel(*args)

        return compute
