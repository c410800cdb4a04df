"""Writes a network node by node, in the form in which PyTorch exports one, with PyTorch's names for the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod

import numpy as np

from nbcnn.errors import InputError
from nbcnn.geometry import window
from nbcnn.graph import Graph, Node, Value
from nbcnn.init import Initializer, initializer

__all__ = ["OPSET", "GraphBuilder"]

OPSET = 17


class GraphBuilder:
    """A graph that grows. Each method appends one operator of ONNX opset 17 and returns the name of its output.

    name: the graph's. shape: of one input, such as (3, 224, 224); the batch dimension "N" goes before it.
    seed, init: where the weights of Conv and Gemm come from, drawn in the order of the calls; biases start at zero.

    Layers with parameters are named: conv(x, "conv1", ...) makes conv1.weight, conv1.bias and the node /conv1/Conv;
    within scope("layer1.0"), layer1.0.conv1.weight. `shapes` follows every value, without the batch dimension, so that
    no layer needs the size of its input. Raises InputError where a window does not fit
    or a layer has no outputs.
    """

    def __init__(self, name: str, shape: Sequence[int], seed: int = 0, init: str | Initializer = "he_normal") -> None:
        if not shape or min(shape) < 1:
            raise InputError(f"{name}: an input of shape {tuple(shape)} has no elements")
        self.graph = Graph(name=name, opset={"": OPSET})
        self.input = "input"
        self.shapes: dict[str, tuple[int, ...]] = {self.input: tuple(shape)}
        self._init = initializer(init)
        self._rng = np.random.default_rng(seed)
        self._scopes: list[str] = []
        self._nodes: dict[str, int] = {}

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Put a name before those of all layers made inside."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    def conv(
        self, x: str, name: str, filters: int, kernel: int, stride: int = 1, pad: int = 0, bias: bool = True
    ) -> str:
        """x (N, C, H, W) -> (N, filters, H', W')."""
        inputs = [x, self._weight(name, (filters, self.shapes[x][0], kernel, kernel))]
        if bias:
            inputs.append(self._constant(name, "bias", np.zeros(filters, np.float32)))
        size = self._slide(x, kernel, stride, pad, False)
        attrs = {
            "dilations": [1, 1],
            "group": 1,
            "kernel_shape": [kernel, kernel],
            "pads": [pad] * 4,
            "strides": [stride, stride],
        }
        return self._add("Conv", inputs, (filters, *size), attrs, name)

    def batch_norm(self, x: str, name: str) -> str:
        """x (N, C, ...) -> the same shape. Frozen, as exported for inference; a Trainer turns batch statistics on.

        ONNX's momentum is 1 - PyTorch's: 0.9 of the running statistics stays at each step.
        """
        channels = self.shapes[x][0]
        starts = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1}
        arrays = [self._constant(name, key, np.full(channels, value, np.float32)) for key, value in starts.items()]
        attrs = {"epsilon": 1e-5, "momentum": 0.9, "training_mode": 0}
        return self._add("BatchNormalization", [x, *arrays], self.shapes[x], attrs, name)

    def gemm(self, x: str, name: str, features: int) -> str:
        """x (N, C) -> (N, features), with a weight (features, C) and a bias."""
        weight = self._weight(name, (features, *self.shapes[x]))
        bias = self._constant(name, "bias", np.zeros(features, np.float32))
        return self._add("Gemm", [x, weight, bias], (features,), {"alpha": 1.0, "beta": 1.0, "transB": 1}, name)

    def relu(self, x: str) -> str:
        return self._add("Relu", [x], self.shapes[x])

    def max_pool(self, x: str, kernel: int, stride: int | None = None, pad: int = 0, ceil_mode: bool = False) -> str:
        """x (N, C, H, W) -> (N, C, H', W'). stride: the kernel when left out."""
        stride = stride or kernel
        size = self._slide(x, kernel, stride, pad, ceil_mode)
        attrs = {
            "ceil_mode": int(ceil_mode),
            "dilations": [1, 1],
            "kernel_shape": [kernel, kernel],
            "pads": [pad] * 4,
            "strides": [stride, stride],
        }
        return self._add("MaxPool", [x], (self.shapes[x][0], *size), attrs)

    def average_pool(self, x: str, kernel: int, stride: int | None = None) -> str:
        """x (N, C, H, W) -> (N, C, H', W'), without padding. stride: the kernel when left out."""
        stride = stride or kernel
        size = self._slide(x, kernel, stride, 0, False)
        attrs = {"kernel_shape": [kernel, kernel], "pads": [0] * 4, "strides": [stride, stride]}
        return self._add("AveragePool", [x], (self.shapes[x][0], *size), attrs)

    def global_average_pool(self, x: str) -> str:
        """x (N, C, H, W) -> (N, C, 1, 1)."""
        return self._add("GlobalAveragePool", [x], (self.shapes[x][0], 1, 1))

    def flatten(self, x: str) -> str:
        """x (N, C, ...) -> (N, C * ...)."""
        return self._add("Flatten", [x], (prod(self.shapes[x]),), {"axis": 1})

    def add(self, a: str, b: str) -> str:
        return self._add("Add", [a, b], self.shapes[a])

    def concat(self, parts: Sequence[str]) -> str:
        """Joins (N, C_i, ...) along the channels."""
        channels = sum(self.shapes[part][0] for part in parts)
        return self._add("Concat", list(parts), (channels, *self.shapes[parts[0]][1:]), {"axis": 1})

    def dropout(self, x: str, ratio: float = 0.5) -> str:
        """Off as written; a Trainer turns it on. ratio: the part that is set to zero."""
        constant = self._add("Constant", [], (), {"value": np.array(ratio, np.float32)})
        return self._add("Dropout", [x, constant], self.shapes[x])

    def lrn(self, x: str, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> str:
        """Local response normalization over `size` neighbouring channels."""
        return self._add("LRN", [x], self.shapes[x], {"alpha": alpha, "beta": beta, "bias": bias, "size": size})

    def softmax(self, x: str) -> str:
        return self._add("Softmax", [x], self.shapes[x], {"axis": 1})

    def finish(self, x: str, softmax: bool = False) -> Graph:
        """The graph, whose output is x under the name "output". softmax: of probabilities instead of logits."""
        x = self.softmax(x) if softmax else x
        graph = self.graph
        graph.producers()[x].outputs[:] = ["output"]
        float32 = np.dtype(np.float32)
        graph.inputs = [Value(self.input, float32, ("N", *self.shapes[self.input]))]
        graph.outputs = [Value("output", float32, ("N", *self.shapes[x]))]
        graph.values = {name: Value(name) for node in graph.nodes for name in node.outputs}
        graph.values |= {value.name: value for value in (*graph.inputs, *graph.outputs)}
        return graph

    def _path(self, *names: str) -> str:
        return ".".join((*self._scopes, *names))

    def _add(
        self,
        op: str,
        inputs: list[str],
        shape: tuple[int, ...],
        attrs: Mapping[str, object] | None = None,
        layer: str = "",
    ) -> str:
        path = self._path(layer) if layer else self._path()
        name = "/".join(("", *filter(None, path.split(".")), op))
        count = self._nodes.get(name, 0)
        self._nodes[name] = count + 1
        name = f"{name}_{count}" if count else name
        output = f"{name}_output_0"
        self.graph.nodes.append(Node(op, inputs, [output], dict(attrs or {}), name))
        self.shapes[output] = shape
        return output

    def _weight(self, layer: str, shape: tuple[int, ...]) -> str:
        if shape[0] < 1:
            raise InputError(f"{self.graph.name}: layer {self._path(layer)!r} would have {shape[0]} outputs")
        return self._constant(layer, "weight", self._init(shape, self._rng))

    def _constant(self, layer: str, key: str, array: np.ndarray) -> str:
        name = self._path(layer, key)
        if name in self.graph.initializers:
            raise ValueError(f"two layers of {self.graph.name} are called {self._path(layer)!r}")
        self.graph.initializers[name] = array
        return name

    def _slide(self, x: str, kernel: int, stride: int, pad: int, ceil_mode: bool) -> tuple[int, ...]:
        size = self.shapes[x][1:]
        try:
            return window(size, [kernel] * 2, [stride] * 2, [pad] * 4, ceil_mode=ceil_mode).out
        except ValueError as error:
            given = " x ".join(map(str, self.shapes[self.input][1:]))
            raise InputError(
                f"{self.graph.name}: pictures of {given} are too small for this network: {error}"
            ) from error
