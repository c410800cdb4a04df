"""DenseNet: G. Huang et al., Densely connected convolutional networks, CVPR 2017, table 1, with growth rate 32."""

from __future__ import annotations

from nbcnn.graph import Graph
from nbcnn.init import Initializer
from nbcnn.zoo.builder import GraphBuilder
from nbcnn.zoo.registry import network

__all__ = ["densenet121"]

GROWTH = 32
DEPTHS = (6, 12, 24, 16)


@network
def densenet121(
    classes: int = 1000,
    channels: int = 3,
    size: int = 224,
    seed: int = 0,
    init: str | Initializer = "he_normal",
    softmax: bool = False,
) -> Graph:
    """input (N, channels, size, size) -> output (N, classes); 7,978,856 parameters at the defaults."""
    g = GraphBuilder("densenet121", (channels, size, size), seed, init)
    with g.scope("features"):
        x = g.conv(g.input, "conv0", 2 * GROWTH, kernel=7, stride=2, pad=3, bias=False)
        x = g.max_pool(g.relu(g.batch_norm(x, "norm0")), 3, stride=2, pad=1)
        for number, depth in enumerate(DEPTHS, 1):
            with g.scope(f"denseblock{number}"):
                x = dense_block(g, x, depth)
            if number < len(DEPTHS):
                with g.scope(f"transition{number}"):
                    x = transition(g, x)
        x = g.batch_norm(x, "norm5")
    x = g.flatten(g.global_average_pool(g.relu(x)))
    return g.finish(g.gemm(x, "classifier", classes), softmax)


def dense_block(g: GraphBuilder, x: str, depth: int) -> str:
    """Each layer reads what all before it gave: a bottleneck of 1x1, then 3x3 to GROWTH more channels."""
    parts = [x]
    for number in range(1, depth + 1):
        with g.scope(f"denselayer{number}"):
            y = g.concat(parts) if len(parts) > 1 else x
            y = g.conv(g.relu(g.batch_norm(y, "norm1")), "conv1", 4 * GROWTH, kernel=1, bias=False)
            y = g.conv(g.relu(g.batch_norm(y, "norm2")), "conv2", GROWTH, kernel=3, pad=1, bias=False)
            parts.append(y)
    return g.concat(parts)


def transition(g: GraphBuilder, x: str) -> str:
    """Half the channels, half the size."""
    filters = g.shapes[x][0] // 2
    x = g.conv(g.relu(g.batch_norm(x, "norm")), "conv", filters, kernel=1, bias=False)
    return g.average_pool(x, 2)
