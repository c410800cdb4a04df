"""What is kept in 16 bits, and what is multiplied in 16 bits."""

from __future__ import annotations

import numpy as np
import pytest
from networks import small_resnet

from nbcnn.devices import HALVES
from nbcnn.graph import Graph
from nbcnn.lower import lower_for_inference
from nbcnn.model import Model
from nbcnn.zoo import GraphBuilder

FP16 = HALVES["fp16"]


def lowered(graph: Graph, shape: tuple[int, ...], kept: np.dtype | None = FP16) -> Graph:
    model = Model(graph)
    feeds = {graph.inputs[0].name: (shape, np.dtype(np.float32))}
    return lower_for_inference(graph, feeds, model.parameters, model.dtype, backend="cuda", kept=kept)


def convolutions(channels: int, middle: int) -> Graph:
    g = GraphBuilder("net", (channels, 6, 6), seed=0)
    x = g.relu(g.conv(g.input, "first", middle, kernel=3, pad=1))
    x = g.conv(x, "second", 4, kernel=3, pad=1)
    return g.finish(g.relu(x))


def test_nothing_without_halves() -> None:
    graph = lowered(small_resnet(), (1, 3, 12, 12), kept=None)
    assert all(value.kept is None for value in graph.values.values())
    assert not any("halves" in node.attrs for node in graph.nodes)


def test_what_users_see_and_weights_stay_whole() -> None:
    graph = lowered(small_resnet(), (1, 3, 12, 12))
    outside = [value.name for value in (*graph.inputs, *graph.outputs)]
    assert all(graph.values[name].kept is None for name in (*outside, *graph.initializers))
    folded = [node for node in graph.nodes if node.op == "BatchNormalizationFold"]
    assert folded and all(graph.values[name].kept is None for node in folded for name in node.outputs)


def test_activations_are_kept_and_multiplied() -> None:
    graph = lowered(convolutions(16, 32), (1, 16, 6, 6))
    first, second = (node for node in graph.nodes if node.op == "Conv")
    for node in (first, second):
        assert node.attrs["halves"] == FP16 and node.attrs["packing"].kept == FP16
        assert all(graph.values[name].kept == FP16 for name in node.inputs[:2])


def test_colours_are_multiplied_whole() -> None:
    graph = lowered(convolutions(3, 32), (1, 3, 6, 6))
    first, second = (node for node in graph.nodes if node.op == "Conv")
    assert "halves" not in first.attrs and "halves" in second.attrs
    assert all(graph.values[name].kept is None for name in first.inputs)
    assert graph.values[first.outputs[0]].kept == FP16
    assert not any(node.op == "Identity" for node in graph.nodes)


@pytest.mark.parametrize("channels", [7, 9])
def test_odd_channels_stay_whole(channels: int) -> None:
    """Words hold pairs of channels."""
    graph = lowered(convolutions(16, channels), (1, 16, 6, 6))
    first, second = (node for node in graph.nodes if node.op == "Conv")
    assert "halves" in first.attrs and "halves" not in second.attrs
    assert graph.values[second.inputs[0]].kept is None


def test_what_others_read_in_halves_is_widened() -> None:
    g = GraphBuilder("net", (16, 6, 6), seed=0)
    x = g.relu(g.conv(g.input, "first", 9, kernel=3, pad=1))
    pools = [g.max_pool(y, 2) for y in (x, g.conv(x, "second", 9, kernel=3, pad=1))]
    graph = lowered(g.finish(g.add(*pools)), (1, 16, 6, 6))
    first, second = (node for node in graph.nodes if node.op == "Conv")
    (widened,) = (node for node in graph.nodes if node.op == "Identity")
    assert widened.inputs == first.outputs[:1] and second.inputs[0] == widened.outputs[0]
    assert graph.values[first.outputs[0]].kept == FP16 and graph.values[second.inputs[0]].kept is None


def test_few_even_channels_are_multiplied() -> None:
    graph = lowered(convolutions(16, 6), (1, 16, 6, 6))
    assert "halves" in [node for node in graph.nodes if node.op == "Conv"][1].attrs


def test_scores_stay_whole() -> None:
    g = GraphBuilder("net", (4, 4, 4), seed=0)
    x = g.relu(g.conv(g.input, "conv", 8, kernel=3, pad=1))
    scores = g.gemm(g.flatten(x), "fc", 4)
    graph = lowered(g.finish(g.softmax(scores)), (2, 4, 4, 4))
    (gemm,) = (node for node in graph.nodes if node.op == "Gemm")
    assert "halves" in gemm.attrs and graph.values[gemm.outputs[0]].kept is None
