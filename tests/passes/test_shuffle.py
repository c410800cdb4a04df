"""Shuffled channels, as files spell them, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channels_last import ChannelsLast
from harness import Case

from nbcnn.graph import Graph, Node, Value

RNG = np.random.default_rng(41)


def graph_of(case: Case, split: list[int], perm: list[int], last: list[int], seen: bool) -> Graph:
    """The case's graph, whose only operator (an Identity) becomes Reshape, Transpose, Reshape."""
    graph = type(case).graph(case)
    node = graph.nodes[-1]
    for name, shape in (("split", split), ("last", last)):
        graph.initializers[name] = np.array(shape, np.int64)
    graph.nodes[-1:] = [
        Node("Reshape", [node.inputs[0], "split"], ["parts"]),
        Node("Transpose", ["parts"], ["turned"], {"perm": perm}),
        Node("Reshape", ["turned", "last"], list(node.outputs)),
    ]
    if seen:
        graph.outputs.append(Value("turned"))
    return graph


CASES: list[tuple[tuple[int, ...], list[int], list[int]]] = [
    ((2, 6, 3, 5), [2, 2, 3, 3, 5], [0, 2, 1, 3, 4]),
    ((2, 24, 1, 1), [2, 3, 8, 1, 1], [0, 2, 1, 3, 4]),
    ((1, 12, 7), [1, 3, 4, 7], [0, 2, 1, 3]),
    ((2, 24, 2, 3), [2, 2, 3, 4, 2, 3], [0, 3, 1, 2, 4, 5]),
    ((2, 4, 2, 2, 2), [2, 2, 2, 2, 2, 2], [0, 2, 1, 3, 4, 5]),
]
OTHERS: list[tuple[tuple[int, ...], list[int], list[int]]] = [
    ((2, 4, 2, 2), [2, 2, 2, 2, 2], [0, 2, 1, 4, 3]),
    ((2, 4, 2, 2), [2, 2, 2, 2, 2], [1, 0, 2, 3, 4]),
    ((4, 4, 2, 2), [2, 2, 4, 2, 2], [0, 2, 1, 3, 4]),
    ((2, 4, 2, 2), [2, 4, 2, 2], [0, 1, 3, 2]),
]


@pytest.mark.parametrize(("kind", "dtype"), [(Case, np.float32), (Case, np.float64), (ChannelsLast, np.float32)])
@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize(("shape", "split", "perm"), CASES + OTHERS)
def test_shuffle(
    shape: tuple[int, ...],
    split: list[int],
    perm: list[int],
    seen: bool,
    kind: type[Case],
    dtype: Any,
    monkeypatch: Any,
) -> None:
    x = RNG.standard_normal(shape).astype(dtype)
    case = kind("Identity", [x], dtype=dtype)
    graph = graph_of(case, split, perm, list(shape), seen)
    monkeypatch.setattr(case, "graph", lambda: graph)
    expected = x.reshape(split).transpose(perm).reshape(shape)
    plan = case.plan()
    assert ("ChannelShuffle" in [node.op for node in plan.nodes]) == ((shape, split, perm) in CASES and not seen)
    np.testing.assert_array_equal(case.execute(plan)[0], expected)
    if not seen:
        dy = RNG.standard_normal(shape).astype(dtype)
        _, (dx,) = case.run_training([dy])
        inverse = np.argsort(perm)
        turned = dy.reshape([split[axis] for axis in perm])
        np.testing.assert_array_equal(dx, turned.transpose(inverse).reshape(shape))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_integers(dtype: Any, monkeypatch: Any) -> None:
    shape, split, perm = CASES[0]
    x = RNG.integers(0, 99, shape).astype(dtype)
    case = Case("Identity", [x])
    graph = graph_of(case, split, perm, list(shape), False)
    monkeypatch.setattr(case, "graph", lambda: graph)
    np.testing.assert_array_equal(case.run()[0], x.reshape(split).transpose(perm).reshape(shape))
