"""The networks that are timed: built by nbcnn.zoo, with random weights and inputs from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nbcnn import zoo
from nbcnn.graph import Graph
from nbcnn.model import Model
from nbcnn.passes.specialize import specialize
from nbcnn.plan import Plan
from nbcnn.report.arithmetic import multiply_adds, work

__all__ = ["SHAPES", "build", "flops", "inputs", "inputs_of", "labels", "moved_bytes", "onnx_file"]

SHAPES = {"lenet": (1, 28, 28), "resnet18": (3, 224, 224), "resnet50": (3, 224, 224), "vgg16": (3, 224, 224)}
"""One sample's shape (C, H, W), by network."""


def build(name: str, seed: int = 0) -> Model:
    """A network with new weights; its input is called "input"."""
    return Model(zoo.graph_of(name, seed=seed))


def inputs(name: str, batch: int, seed: int = 0) -> np.ndarray:
    """Standard normal numbers, float32 (batch, C, H, W)."""
    return np.random.default_rng(seed).standard_normal((batch, *SHAPES[name]), dtype=np.float32)


def inputs_of(model: Model, batch: int, seed: int = 0) -> np.ndarray:
    """Such numbers for the one input of any network, float32 (batch, ...)."""
    (port,) = model.inputs
    assert port.shape is not None
    shape = (batch, *(int(n) for n in port.shape[1:] if n is not None))
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def labels(classes: int, batch: int, seed: int = 0) -> np.ndarray:
    """Class indices, int64 (batch,)."""
    return np.random.default_rng(seed + 1).integers(0, classes, batch)


def lowered(graph: Graph, batch: int) -> Graph:
    """The graph with every shape known, not yet fused or packed."""
    value = graph.inputs[0]
    assert value.shape is not None
    shape = (batch, *(int(d) for d in value.shape[1:] if d is not None))
    return specialize(graph, {value.name: (shape, np.dtype(np.float32))}, np.dtype(np.float32))


def flops(graph: Graph, batch: int) -> int:
    """Floating-point operations of a forward pass, as a direct convolution needs them: two for each multiply-add."""
    found = lowered(graph, batch)
    return 2 * sum(multiply_adds(node, found.values) for node in found.nodes)


def moved_bytes(plan: Plan) -> int:
    """What the layers of a plan must move at least: every input, weight and result of each once."""
    nodes = {id(node): node for node in plan.nodes}.values()
    return sum(work(node, plan.graph.values).bytes for node in nodes)


@contextmanager
def onnx_file(model: Model) -> Iterator[Path]:
    """The model as an ONNX file, for as long as the context lasts."""
    with TemporaryDirectory(prefix="nbcnn-bench-") as folder:
        path = Path(folder) / f"{model.graph.name}.onnx"
        model.save(path)
        yield path
