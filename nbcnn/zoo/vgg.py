"""VGG-16 and VGG-19: K. Simonyan, A. Zisserman, Very deep convolutional networks for large-scale image recognition,
ICLR 2015, table 1, columns D and E, in torchvision's form.
"""

from __future__ import annotations

from collections.abc import Sequence

from nbcnn.graph import Graph
from nbcnn.init import Initializer
from nbcnn.zoo.builder import GraphBuilder
from nbcnn.zoo.registry import network

__all__ = ["vgg16", "vgg19"]

FILTERS = (64, 128, 256, 512, 512)


@network
def vgg16(
    classes: int = 1000,
    channels: int = 3,
    size: int = 224,
    seed: int = 0,
    init: str | Initializer = "he_normal",
    softmax: bool = False,
) -> Graph:
    """input (N, channels, size, size) -> output (N, classes); 138,357,544 parameters at the defaults."""
    g = GraphBuilder("vgg16", (channels, size, size), seed, init)
    return g.finish(vgg(g, (2, 2, 3, 3, 3), classes), softmax)


@network
def vgg19(
    classes: int = 1000,
    channels: int = 3,
    size: int = 224,
    seed: int = 0,
    init: str | Initializer = "he_normal",
    softmax: bool = False,
) -> Graph:
    """input (N, channels, size, size) -> output (N, classes); 143,667,240 parameters at the defaults."""
    g = GraphBuilder("vgg19", (channels, size, size), seed, init)
    return g.finish(vgg(g, (2, 2, 4, 4, 4), classes), softmax)


def vgg(g: GraphBuilder, depths: Sequence[int], classes: int) -> str:
    """depths: 3x3 convolutions before each of the five max pools. Returns the logits.

    Layers are numbered as in PyTorch's Sequential, where ReLU, pooling and dropout take a number too.
    """
    x, number = g.input, 0
    with g.scope("features"):
        for filters, depth in zip(FILTERS, depths, strict=True):
            for _ in range(depth):
                x = g.relu(g.conv(x, str(number), filters, kernel=3, pad=1))
                number += 2
            x = g.max_pool(x, 2)
            number += 1
    x = g.flatten(x)
    with g.scope("classifier"):
        x = g.dropout(g.relu(g.gemm(x, "0", 4096)))
        x = g.dropout(g.relu(g.gemm(x, "3", 4096)))
        return g.gemm(x, "6", classes)
