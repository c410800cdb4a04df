"""Networks of which onnx ships the graph alone: the "light" models of its backend tests.

Their weights are made by ConstantOfShape nodes, every one of a tensor the same. Here each becomes an initializer with
numbers from a seed: He's normal for what is multiplied, and for a batch norm what keeps activations at their size, so
that nothing overflows or becomes denormal on the way.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nbcnn.graph import Graph, Node
from nbcnn.init import he_normal
from nbcnn.model import Model

__all__ = ["light_folder", "light_model", "with_weights"]


def light_folder() -> Path:
    """Where the installed onnx package keeps them."""
    import onnx.backend.test

    return Path(onnx.backend.test.__file__).parent / "data" / "light"


def light_model(path: Path, seed: int = 0) -> Model:
    """A light model with weights from a seed."""
    from nbcnn.api import load

    return Model(with_weights(load(path).graph, seed))


def with_weights(graph: Graph, seed: int = 0) -> Graph:
    """A copy of a graph in which initializers stand for its ConstantOfShape nodes."""
    graph = graph.copy()
    rng = np.random.default_rng(seed)
    readers = graph.consumers()
    kept = []
    for node in graph.nodes:
        if node.op != "ConstantOfShape" or node.inputs[0] not in graph.initializers:
            kept.append(node)
            continue
        (name,) = node.outputs
        shape = [int(n) for n in graph.initializers[node.inputs[0]]]
        graph.initializers[name] = _weight(shape, _is_factor(name, readers), rng)
    graph.nodes = kept
    used = {name for node in graph.nodes for name in node.inputs}
    graph.initializers = {name: array for name, array in graph.initializers.items() if name in used}
    return graph


def _is_factor(name: str, readers: dict[str, list[Node]]) -> bool:
    """Whether something is multiplied or divided by a value channel by channel: a Mul, a batch norm."""
    reader = readers[name][0]
    if reader.op in ("Unsqueeze", "Reshape"):
        return _is_factor(reader.outputs[0], readers)
    return reader.op == "Mul" or (reader.op == "BatchNormalization" and reader.inputs.index(name) in (1, 4))


def _weight(shape: list[int], factor: bool, rng: np.random.Generator) -> np.ndarray:
    """One tensor: a weight, or, of one dimension, a factor around 1 or a shift around 0."""
    if len(shape) > 1:
        return he_normal(shape, rng)
    around = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.1)
    return np.float32(1) + np.abs(around) if factor else around
