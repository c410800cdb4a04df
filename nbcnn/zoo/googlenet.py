"""GoogLeNet (Inception v1) without its auxiliary classifiers: C. Szegedy et al., Going deeper with convolutions, CVPR
2015, table 1.
"""

from __future__ import annotations

from nbcnn.graph import Graph
from nbcnn.init import Initializer
from nbcnn.zoo.builder import GraphBuilder
from nbcnn.zoo.registry import network

__all__ = ["googlenet"]

STAGES = {
    3: {"a": (64, 96, 128, 16, 32, 32), "b": (128, 128, 192, 32, 96, 64)},
    4: {
        "a": (192, 96, 208, 16, 48, 64),
        "b": (160, 112, 224, 24, 64, 64),
        "c": (128, 128, 256, 24, 64, 64),
        "d": (112, 144, 288, 32, 64, 64),
        "e": (256, 160, 320, 32, 128, 128),
    },
    5: {"a": (256, 160, 320, 32, 128, 128), "b": (384, 192, 384, 48, 128, 128)},
}
"""Filters of each module's convolutions: 1x1; 1x1 then 3x3; 1x1 then 5x5; 1x1 after the pool."""


@network
def googlenet(
    classes: int = 1000,
    channels: int = 3,
    size: int = 224,
    seed: int = 0,
    init: str | Initializer = "he_normal",
    softmax: bool = False,
) -> Graph:
    """input (N, channels, size, size) -> output (N, classes); 6,998,552 parameters at the defaults.

    The paper's network, with local response normalization and biases; torchvision's of that name has batch norm.
    """
    g = GraphBuilder("googlenet", (channels, size, size), seed, init)
    x = g.relu(g.conv(g.input, "conv1", 64, kernel=7, stride=2, pad=3))
    x = g.lrn(g.max_pool(x, 3, stride=2, ceil_mode=True))
    x = g.relu(g.conv(x, "conv2", 64, kernel=1))
    x = g.lrn(g.relu(g.conv(x, "conv3", 192, kernel=3, pad=1)))
    for stage, modules in STAGES.items():
        x = g.max_pool(x, 3, stride=2, ceil_mode=True)
        for letter, filters in modules.items():
            with g.scope(f"inception{stage}{letter}"):
                x = inception(g, x, filters)
    x = g.dropout(g.flatten(g.global_average_pool(x)), 0.4)
    return g.finish(g.gemm(x, "fc", classes), softmax)


def inception(g: GraphBuilder, x: str, filters: tuple[int, ...]) -> str:
    """Four ways side by side, joined along the channels."""
    one, three_down, three, five_down, five, pooled = filters
    a = g.relu(g.conv(x, "branch1", one, kernel=1))
    b = g.relu(g.conv(x, "branch2.0", three_down, kernel=1))
    b = g.relu(g.conv(b, "branch2.1", three, kernel=3, pad=1))
    c = g.relu(g.conv(x, "branch3.0", five_down, kernel=1))
    c = g.relu(g.conv(c, "branch3.1", five, kernel=5, pad=2))
    d = g.relu(g.conv(g.max_pool(x, 3, stride=1, pad=1), "branch4.1", pooled, kernel=1))
    return g.concat([a, b, c, d])
