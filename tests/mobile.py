"""Blocks of MobileNet as networks of a few nodes, and what they compute, by the oracle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import reference
from harness import Case

from nbcnn.graph import Graph, Node, Value

LOW, HIGH = -0.2, 1.1
"""The clamp behind the first two convolutions; others than those of Relu6, so that zeros of the padding show."""


@dataclass
class Shape:
    """x: (images, channels, lines, columns). expands: whether there is a first convolution, to `hidden` channels."""

    x: tuple[int, int, int, int]
    hidden: int
    made: int
    stride: int = 1
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    expands: bool = True
    residual: bool = False
    bias: bool = True

    @property
    def taps(self) -> dict[str, Any]:
        return {"group": self.hidden, "strides": [self.stride] * 2, "pads": list(self.pads)}


BLOCKS: dict[str, Shape] = {
    "with a residual": Shape((2, 24, 13, 9), 40, 24, residual=True),
    "stride 2": Shape((1, 16, 17, 12), 35, 24, stride=2),
    "no expansion": Shape((1, 32, 9, 14), 32, 16, expands=False),
    "no expansion, stride 2": Shape((3, 7, 11, 6), 7, 5, stride=2, expands=False),
    "few lines": Shape((1, 5, 2, 7), 18, 33),
    "one pixel": Shape((1, 3, 1, 1), 5, 3, residual=True),
    "one column": Shape((2, 8, 15, 1), 16, 40, stride=2, bias=False),
    "uneven padding": Shape((1, 4, 10, 8), 17, 9, pads=(2, 0, 0, 1)),
    "padding at the end": Shape((1, 4, 16, 8), 33, 20, stride=2, pads=(0, 0, 1, 1)),
    "no padding": Shape((3, 12, 12, 11), 48, 24, pads=(0, 0, 0, 0), bias=False),
    "rows a page apart": Shape((1, 1024, 3, 5), 8, 16),
    "deep": Shape((1, 2, 6, 4), 1030, 70, residual=False),
}


class BlockCase(Case):
    """A network of one block, on random arrays."""

    def __init__(self, shape: Shape, dtype: Any = np.float32, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        depth = shape.x[1]

        def filters(*dims: int) -> list[np.ndarray | None]:
            spread = 1 / np.sqrt(np.prod(dims[1:]))
            w = (spread * rng.standard_normal(dims)).astype(dtype)
            return [w, rng.standard_normal(dims[0]).astype(dtype) if shape.bias else None]

        arrays: list[np.ndarray | None] = [rng.standard_normal(shape.x).astype(dtype)]
        arrays += filters(shape.hidden, depth, 1, 1) if shape.expands else [None, None]
        arrays += filters(shape.hidden, 1, 3, 3) + filters(shape.made, shape.hidden, 1, 1)
        super().__init__("", arrays, weights=tuple(range(1, 7)), dtype=dtype)
        self.shape = shape

    def graph(self) -> Graph:
        def given(*slots: int) -> list[str]:
            return [f"i{slot}" if self.inputs[slot] is not None else "" for slot in slots]

        graph = Graph(opset={"": 17})
        for k, array in enumerate(self.inputs):
            if array is not None and k:
                graph.initializers[f"i{k}"] = array
        graph.inputs.append(Value("i0", np.dtype(self.dtype), self.shape.x))
        for name, value in (("low", LOW), ("high", HIGH)):
            graph.initializers[name] = np.array(value, self.dtype)
        x = "i0"
        if self.shape.expands:
            graph.nodes += [Node("Conv", ["i0", *given(1, 2)], ["a"]), Node("Clip", ["a", "low", "high"], ["b"])]
            x = "b"
        graph.nodes += [
            Node("Conv", [x, *given(3, 4)], ["c"], self.shape.taps),
            Node("Clip", ["c", "low", "high"], ["d"]),
            Node("Conv", ["d", *given(5, 6)], ["e"], name="project"),
        ]
        if self.shape.residual:
            graph.nodes.append(Node("Add", ["e", "i0"], ["y"]))
        graph.outputs = [Value("y" if self.shape.residual else "e")]
        return graph

    def want(self) -> np.ndarray:
        """By the oracle, in float64."""
        x, w1, b1, w2, b2, w3, b3 = self.inputs
        assert x is not None and w2 is not None and w3 is not None
        inside: np.ndarray = x
        if w1 is not None:
            inside = np.clip(reference.conv(x, w1, b1), LOW, HIGH)
        inside = np.clip(reference.conv(inside, w2, b2, **self.shape.taps), LOW, HIGH)
        found: np.ndarray = reference.conv(inside, w3, b3)
        return found + x if self.shape.residual else found
