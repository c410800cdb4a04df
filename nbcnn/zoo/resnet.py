"""ResNet: K. He et al., Deep residual learning for image recognition, CVPR 2016, table 1, in torchvision's form, where
the stride of a bottleneck is in its 3x3 convolution ("version 1.5").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nbcnn.graph import Graph
from nbcnn.init import Initializer
from nbcnn.zoo.builder import GraphBuilder
from nbcnn.zoo.registry import network

__all__ = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]

Block = Callable[[GraphBuilder, str, int, int], str]
"""(builder, x, width, stride) -> x after the block."""


@network
def resnet18(
    classes: int = 1000,
    channels: int = 3,
    size: int = 224,
    seed: int = 0,
    init: str | Initializer = "he_normal",
    softmax: bool = False,
) -> Graph:
    """input (N, channels, size, size) -> output (N, classes); 11,689,512 parameters at the defaults."""
    g = GraphBuilder("resnet18", (channels, size, size), seed, init)
    return g.finish(resnet(g, basic, (2, 2, 2, 2), classes), softmax)


@network
def resnet34(
    classes: int = 1000,
    channels: int = 3,
    size: int = 224,
    seed: int = 0,
    init: str | Initializer = "he_normal",
    softmax: bool = False,
) -> Graph:
    """input (N, channels, size, size) -> output (N, classes); 21,797,672 parameters at the defaults."""
    g = GraphBuilder("resnet34", (channels, size, size), seed, init)
    return g.finish(resnet(g, basic, (3, 4, 6, 3), classes), softmax)


@network
def resnet50(
    classes: int = 1000,
    channels: int = 3,
    size: int = 224,
    seed: int = 0,
    init: str | Initializer = "he_normal",
    softmax: bool = False,
) -> Graph:
    """input (N, channels, size, size) -> output (N, classes); 25,557,032 parameters at the defaults."""
    g = GraphBuilder("resnet50", (channels, size, size), seed, init)
    return g.finish(resnet(g, bottleneck, (3, 4, 6, 3), classes), softmax)


@network
def resnet101(
    classes: int = 1000,
    channels: int = 3,
    size: int = 224,
    seed: int = 0,
    init: str | Initializer = "he_normal",
    softmax: bool = False,
) -> Graph:
    """input (N, channels, size, size) -> output (N, classes); 44,549,160 parameters at the defaults."""
    g = GraphBuilder("resnet101", (channels, size, size), seed, init)
    return g.finish(resnet(g, bottleneck, (3, 4, 23, 3), classes), softmax)


@network
def resnet152(
    classes: int = 1000,
    channels: int = 3,
    size: int = 224,
    seed: int = 0,
    init: str | Initializer = "he_normal",
    softmax: bool = False,
) -> Graph:
    """input (N, channels, size, size) -> output (N, classes); 60,192,808 parameters at the defaults."""
    g = GraphBuilder("resnet152", (channels, size, size), seed, init)
    return g.finish(resnet(g, bottleneck, (3, 8, 36, 3), classes), softmax)


def resnet(g: GraphBuilder, block: Block, depths: Sequence[int], classes: int) -> str:
    """depths: blocks in each of the four stages. Returns the logits."""
    x = g.conv(g.input, "conv1", 64, kernel=7, stride=2, pad=3, bias=False)
    x = g.relu(g.batch_norm(x, "bn1"))
    x = g.max_pool(x, 3, stride=2, pad=1)
    for stage, depth in enumerate(depths):
        for number in range(depth):
            with g.scope(f"layer{stage + 1}.{number}"):
                x = block(g, x, 64 << stage, 2 if stage and not number else 1)
    return g.gemm(g.flatten(g.global_average_pool(x)), "fc", classes)


def basic(g: GraphBuilder, x: str, width: int, stride: int) -> str:
    """Two 3x3 convolutions."""
    y = g.conv(x, "conv1", width, kernel=3, stride=stride, pad=1, bias=False)
    y = g.relu(g.batch_norm(y, "bn1"))
    y = g.conv(y, "conv2", width, kernel=3, pad=1, bias=False)
    y = g.batch_norm(y, "bn2")
    return g.relu(g.add(y, shortcut(g, x, width, stride)))


def bottleneck(g: GraphBuilder, x: str, width: int, stride: int) -> str:
    """1x1 down to `width` channels, 3x3, 1x1 up to four times as many."""
    y = g.conv(x, "conv1", width, kernel=1, bias=False)
    y = g.relu(g.batch_norm(y, "bn1"))
    y = g.conv(y, "conv2", width, kernel=3, stride=stride, pad=1, bias=False)
    y = g.relu(g.batch_norm(y, "bn2"))
    y = g.conv(y, "conv3", 4 * width, kernel=1, bias=False)
    y = g.batch_norm(y, "bn3")
    return g.relu(g.add(y, shortcut(g, x, 4 * width, stride)))


def shortcut(g: GraphBuilder, x: str, filters: int, stride: int) -> str:
    """The identity where shapes allow it, a 1x1 convolution where not."""
    if stride == 1 and g.shapes[x][0] == filters:
        return x
    with g.scope("downsample"):
        return g.batch_norm(g.conv(x, "0", filters, kernel=1, stride=stride, bias=False), "1")
