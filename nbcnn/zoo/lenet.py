"""LeNet-5's plan with max pooling and ReLU."""

from __future__ import annotations

from nbcnn.graph import Graph
from nbcnn.init import Initializer
from nbcnn.zoo.builder import GraphBuilder
from nbcnn.zoo.registry import network

__all__ = ["lenet"]


@network
def lenet(
    classes: int = 10,
    channels: int = 1,
    size: int = 28,
    pad: int | None = None,
    seed: int = 0,
    init: str | Initializer = "he_uniform",
    softmax: bool = False,
) -> Graph:
    """input (N, channels, size, size) -> output (N, classes).

    Convolution 6 of 5x5, max pool 2, convolution 16 of 5x5, max pool 2, fully connected 120, 84, classes; ReLU between.
    pad: pixels added on every side before each convolution; None means 0 from size 28 up (fc1 then takes 256 features
    of a 28x28 picture) and 2 below, so that small pictures fit (64 features of an 8x8 one).

    After Y. LeCun et al., Gradient-based learning applied to document recognition, Proceedings of the IEEE 86, 1998.
    """
    pad = pad if pad is not None else 0 if size >= 28 else 2
    g = GraphBuilder("lenet", (channels, size, size), seed, init)
    x = g.max_pool(g.relu(g.conv(g.input, "conv1", 6, kernel=5, pad=pad)), 2)
    x = g.max_pool(g.relu(g.conv(x, "conv2", 16, kernel=5, pad=pad)), 2)
    x = g.relu(g.gemm(g.flatten(x), "fc1", 120))
    x = g.relu(g.gemm(x, "fc2", 84))
    return g.finish(g.gemm(x, "fc3", classes), softmax)
