"""The multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from nbcnn.errors import InputError
from nbcnn.graph import Graph
from nbcnn.init import Initializer
from nbcnn.zoo.builder import GraphBuilder
from nbcnn.zoo.registry import network

__all__ = ["mlp"]


@network
def mlp(
    sizes: Sequence[int] = (784, 120, 84, 10),
    shape: Sequence[int] | None = None,
    seed: int = 0,
    init: str | Initializer = "he_uniform",
    softmax: bool = False,
) -> Graph:
    """input (N, sizes[0]) -> output (N, sizes[-1]): fully connected layers fc1, fc2, ... with ReLU between.

    shape: of one input, where it is not flat already: with (1, 28, 28) the network takes (N, 1, 28, 28) and begins with
    a Flatten.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise InputError(f"mlp: sizes {tuple(sizes)} must be two or more positive numbers")
    shape = tuple(shape) if shape is not None else (sizes[0],)
    if prod(shape) != sizes[0]:
        raise InputError(f"mlp: an input of shape {shape} has {prod(shape)} elements, but sizes begin with {sizes[0]}")
    g = GraphBuilder("mlp", shape, seed, init)
    x = g.input if len(shape) == 1 else g.flatten(g.input)
    for number, features in enumerate(sizes[1:-1], 1):
        x = g.relu(g.gemm(x, f"fc{number}", features))
    return g.finish(g.gemm(x, f"fc{len(sizes) - 1}", sizes[-1]), softmax)
