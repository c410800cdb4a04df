"""Networks that are small enough to be compared in seconds, and have every kind of layer that the large ones have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from networks import small_resnet, stir

from nbcnn.devices import find_device
from nbcnn.graph import Graph
from nbcnn.model import Model
from nbcnn.zoo import GraphBuilder, graph_of

from .conftest import SIMULATED

__all__ = ["CLASSES", "NETWORKS", "TRAINED", "batches", "graph", "mobile", "model"]

CLASSES = 10


def mobile(size: int, widths: tuple[int, ...] = (16, 32, 64, 64, 128)) -> Graph:
    """MobileNet's plan (A. Howard et al., arXiv:1704.04861): depthwise and pointwise convolutions in turn."""
    g = GraphBuilder("mobile", (3, size, size), seed=0)
    x = g.relu(g.batch_norm(g.conv(g.input, "stem", 8, kernel=3, stride=2, pad=1, bias=False), "stem_bn"))
    for number, width in enumerate(widths):
        with g.scope(f"block{number}"):
            x = g.relu(g.batch_norm(_depthwise(g, x, stride=1 + number % 2), "bn1"))
            x = g.relu(g.batch_norm(g.conv(x, "pointwise", width, kernel=1, bias=False), "bn2"))
    return g.finish(g.gemm(g.flatten(g.global_average_pool(x)), "fc", CLASSES))


def _depthwise(g: GraphBuilder, x: str, stride: int) -> str:
    channels = g.shapes[x][0]
    y = g.conv(x, "depthwise", channels, kernel=3, stride=stride, pad=1, bias=False)
    node = g.graph.nodes[-1]
    node.attrs["group"] = channels
    weights = g.graph.initializers[node.inputs[1]]
    g.graph.initializers[node.inputs[1]] = weights[:, :1] * np.float32(channels**0.5)
    return y


def _zoo(name: str, size: int, **options: Any) -> Callable[[], Graph]:
    return lambda: graph_of(name, size=size, classes=CLASSES, **options)


NETWORKS: dict[str, Callable[[], Graph]] = {
    "lenet": _zoo("lenet", 28),
    "mobile": lambda: mobile(64),
    "resnet18": _zoo("resnet18", 64),
    "resnet50": _zoo("resnet50", 64),
    "vgg16": _zoo("vgg16", 32),
    "googlenet": _zoo("googlenet", 64),
    "densenet121": _zoo("densenet121", 64),
}
TRAINED: dict[str, Callable[[], Graph]] = {
    "lenet": _zoo("lenet", 28),
    "mobile": lambda: mobile(32),
    "small_resnet": lambda: small_resnet(32, 24, CLASSES),
}
if SIMULATED:
    NETWORKS = {
        "lenet": _zoo("lenet", 8),
        "mobile": lambda: mobile(6, (3, 5)),
        "small_resnet": lambda: small_resnet(4, 6, CLASSES),
    }
    TRAINED = NETWORKS


def graph(name: str) -> Graph:
    """A network whose biases and batch norms are not at zero and one."""
    return stir({**TRAINED, **NETWORKS}[name]())


def model(name: str, device: str = "cuda", **options: Any) -> Model:
    return Model(graph(name), device=find_device(device, **options), exact=True)


def batches(found: Model, count: int, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """So many batches: x (size, C, H, W), and class numbers t (size,)."""
    rng = np.random.default_rng(0)
    shape = [int(n) for n in (found.graph.inputs[0].shape or ())[1:] if n is not None]
    return [
        (rng.standard_normal((size, *shape)).astype(np.float32), rng.integers(0, CLASSES, size)) for _ in range(count)
    ]
