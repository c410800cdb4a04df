"""The numbers of VGG-16 (example 9 of the lectures), border pixels (example 7), and the command that prints them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from nbcnn.errors import InputError
from nbcnn.graph import Graph, Node, Value
from nbcnn.report.shapes import input_shapes
from nbcnn.report.summary import Summary, summarize
from nbcnn.zoo import graph_of

Cli = Callable[..., Result]

WEIGHTS = [1_728, 36_864, 73_728, 147_456, 294_912, 589_824, 589_824, 1_179_648, *[2_359_296] * 5]
WEIGHTS += [102_760_448, 16_777_216, 4_096_000]
ACTIVATIONS = [224 * 224 * 64] * 2 + [112 * 112 * 64] + [112 * 112 * 128] * 2 + [56 * 56 * 128]
ACTIVATIONS += [56 * 56 * 256] * 3 + [28 * 28 * 256] + [28 * 28 * 512] * 3 + [14 * 14 * 512] * 4 + [7 * 7 * 512]
ACTIVATIONS += [4096, 4096, 1000]
# Each number of a convolution's result is a sum over its 3x3 window and its input channels.
PRODUCTS = 15_346_630_656 + 102_760_448 + 16_777_216 + 4_096_000


@pytest.fixture(scope="module")
def vgg16() -> Summary:
    graph = graph_of("vgg16", init="zeros")
    return summarize(graph, input_shapes(graph))


def test_vgg16_weights(vgg16: Summary) -> None:
    assert [row.weights for row in vgg16.rows if row.weights] == WEIGHTS
    assert vgg16.parameters == 138_357_544
    assert vgg16.trained == vgg16.parameters


def test_vgg16_activations(vgg16: Summary) -> None:
    assert [row.activations for row in vgg16.rows if row.activations] == ACTIVATIONS
    assert vgg16.activations == sum(ACTIVATIONS) + 224 * 224 * 3
    assert round(vgg16.activations / 1e6, 1) == 15.2


def test_vgg16_memory(vgg16: Summary) -> None:
    """Four bytes a number; a backward pass takes about twice as much."""
    assert vgg16.forward_bytes == 4 * vgg16.activations
    assert 1.9 < vgg16.training_bytes / vgg16.forward_bytes < 2.1
    dropout = [row for row in vgg16.rows if row.op == "Dropout"]
    assert [(row.forward_bytes, row.training_bytes) for row in dropout] == [(0, 2 * 4 * 4096)] * 2


def test_vgg16_products(vgg16: Summary) -> None:
    assert vgg16.multiply_adds == PRODUCTS


def test_batch_scales_everything_but_parameters() -> None:
    graph = graph_of("resnet18", init="zeros")
    one, two = (summarize(graph, input_shapes(graph, batch)) for batch in (1, 2))
    assert two.parameters == one.parameters == 11_689_512
    assert two.multiply_adds == 2 * one.multiply_adds
    assert two.activations == 2 * one.activations
    assert one.statistics == sum(a.size for n, a in graph.initializers.items() if "running" in n)


def test_frozen_layers_are_not_counted_as_trained() -> None:
    graph = graph_of("lenet", init="zeros")
    shapes = input_shapes(graph)
    summary = summarize(graph, shapes, freeze=["conv*"])
    assert {row.op for row in summary.rows if row.parameters and not row.trained} == {"Conv"}
    # No gradient flows into what lies before the first trained layer.
    first, trained = (next(row for row in s.rows if row.op == "Conv") for s in (summary, summarize(graph, shapes)))
    assert 2 * first.training_bytes == trained.training_bytes


def strided(size: int, kernel: int, stride: int, pads: list[int], op: str = "Conv", **attrs: object) -> Graph:
    attributes = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "pads": pads, **attrs}
    inputs = ["x", "w"] if op == "Conv" else ["x"]
    graph = Graph(opset={"": 17}, nodes=[Node(op, inputs, ["y"], attributes, "layer")])
    graph.inputs, graph.outputs = [Value("x", np.dtype(np.float32), (1, 1, size, size))], [Value("y")]
    if op == "Conv":
        graph.initializers["w"] = np.zeros((1, 1, kernel, kernel), np.float32)
    return graph


@pytest.mark.parametrize(
    ("graph", "out", "note"),
    [
        (strided(10, 3, 2, [0] * 4), 4, "the last 1 of 10 rows and the last 1 of 10 columns not read"),
        (strided(227, 11, 4, [0] * 4), 55, ""),
        (strided(224, 7, 2, [3] * 4), 112, ""),  # what is left over is padding
        (strided(7, 2, 2, [0] * 4, "MaxPool"), 3, "the last 1 of 7 rows"),
        (strided(7, 2, 2, [0] * 4, "MaxPool", ceil_mode=1), 4, ""),
        (strided(12, 3, 5, [0] * 4, "AveragePool"), 2, "the last 4 of 12 rows and the last 4 of 12 columns"),
    ],
)
def test_border_pixels_that_a_stride_drops(graph: Graph, out: int, note: str) -> None:
    (row,) = summarize(graph, input_shapes(graph)).rows
    assert row.shape == (1, 1, out, out)
    assert row.note.startswith(note) and bool(row.note) == bool(note)


def test_shapes() -> None:
    graph = graph_of("lenet", init="zeros")
    assert input_shapes(graph) == {"input": (1, 1, 28, 28)}
    assert input_shapes(graph, 7) == {"input": (7, 1, 28, 28)}
    assert input_shapes(graph, None, {"input": (2, 1, 28, 28)}) == {"input": (2, 1, 28, 28)}
    with pytest.raises(InputError, match="no input 'x'"):
        input_shapes(graph, None, {"x": (1,)})
    with pytest.raises(InputError, match="has 4 dimensions, not 1"):
        input_shapes(graph, None, {"input": (1,)})
    graph.inputs[0].shape = ("N", None, "H", "W")
    assert input_shapes(graph) == {"input": (1, 1, 224, 224)}
    graph.metadata["nbcnn.size"] = "32,48"
    assert input_shapes(graph) == {"input": (1, 1, 32, 48)}


def test_table(cli: Cli, lenet: Path) -> None:
    result = cli("summary", lenet)
    assert result.exit_code == 0, result.output
    assert "/conv1/Conv" in result.stdout and "150 + 6" in result.stdout and "1x6x8x8" in result.stdout
    assert "21,386 parameters" in result.stdout and "planned peak" in result.stdout


def test_json(cli: Cli, lenet: Path) -> None:
    result = cli("summary", lenet, "--json", "--batch", 3)
    found = json.loads(result.stdout)
    assert found["inputs"] == {"input": [3, 1, 8, 8]}
    assert found["totals"]["parameters"] == 21_386
    assert found["totals"]["planned_peak_bytes"] > 0
    assert found["layers"][0]["op"] == "Conv"


def test_shape_option(cli: Cli, lenet: Path) -> None:
    shapes = [
        json.loads(cli("summary", lenet, "--json", "--shape", s).stdout)["inputs"] for s in ("2,1,8,8", "input=2x1x8x8")
    ]
    assert shapes == [{"input": [2, 1, 8, 8]}] * 2
