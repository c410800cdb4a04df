"""AlexNet."""

from __future__ import annotations

from nbcnn.graph import Graph
from nbcnn.init import Initializer
from nbcnn.zoo.builder import GraphBuilder
from nbcnn.zoo.registry import network

__all__ = ["alexnet"]


@network
def alexnet(
    classes: int = 1000,
    channels: int = 3,
    size: int = 224,
    seed: int = 0,
    init: str | Initializer = "he_normal",
    softmax: bool = False,
) -> Graph:
    """input (N, channels, size, size) -> output (N, classes); 61,100,840 parameters at the defaults.

    The one-tower form of A. Krizhevsky, One weird trick for parallelizing convolutional neural networks, arXiv
    1404.5997, as torchvision has it: no local response normalization, dropout before the first two fully connected
    layers.
    """
    g = GraphBuilder("alexnet", (channels, size, size), seed, init)
    with g.scope("features"):
        x = g.relu(g.conv(g.input, "0", 64, kernel=11, stride=4, pad=2))
        x = g.max_pool(x, 3, stride=2)
        x = g.relu(g.conv(x, "3", 192, kernel=5, pad=2))
        x = g.max_pool(x, 3, stride=2)
        x = g.relu(g.conv(x, "6", 384, kernel=3, pad=1))
        x = g.relu(g.conv(x, "8", 256, kernel=3, pad=1))
        x = g.relu(g.conv(x, "10", 256, kernel=3, pad=1))
        x = g.max_pool(x, 3, stride=2)
    x = g.flatten(x)
    with g.scope("classifier"):
        x = g.relu(g.gemm(g.dropout(x), "1", 4096))
        x = g.relu(g.gemm(g.dropout(x), "4", 4096))
        return g.finish(g.gemm(x, "6", classes), softmax)
