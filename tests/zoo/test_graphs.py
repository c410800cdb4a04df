"""The networks as graphs: published sizes, names, seeds, options, and what onnx says of them."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import onnx
import pytest

from nbcnn import init
from nbcnn.errors import InputError
from nbcnn.graph import Graph, Value
from nbcnn.onnx_io import to_proto
from nbcnn.zoo import BUILDERS, GraphBuilder, graph_of

# From the papers and from torchvision's tables of weights; LeNet's is summed up by hand:
# (25+1)*6 + (25*6+1)*16 + (256+1)*120 + (120+1)*84 + (84+1)*10.
PUBLISHED = {
    "lenet": 44_426,
    "mlp": 785 * 120 + 121 * 84 + 85 * 10,
    "alexnet": 61_100_840,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "googlenet": 6_998_552,
    "densenet121": 7_978_856,
}


def parameters(graph: Graph) -> int:
    return sum(array.size for name, array in graph.initializers.items() if ".running_" not in name)


def digest(graph: Graph) -> str:
    pieces = (name.encode() + array.tobytes() for name, array in graph.initializers.items())
    return hashlib.sha256(b"".join(pieces)).hexdigest()


def test_every_network_is_counted() -> None:
    assert set(PUBLISHED) == set(BUILDERS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_number_of_parameters(name: str) -> None:
    graph = graph_of(name, init="zeros")
    assert parameters(graph) == PUBLISHED[name]
    assert graph.output_names() == ["output"] and [v.name for v in graph.inputs] == ["input"]
    assert all(array.dtype == np.float32 for array in graph.initializers.values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_onnx_infers_the_same_shapes(name: str) -> None:
    """onnx's full check and strict shape inference; weights are made inputs, because only their shapes matter here."""
    graph = graph_of(name, init="zeros")
    graph.inputs += [Value(weight, array.dtype, array.shape) for weight, array in graph.initializers.items()]
    graph.initializers = {}
    proto = to_proto(graph)
    onnx.checker.check_model(proto, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    (output,) = inferred.graph.output
    dims = [d.dim_param or d.dim_value for d in output.type.tensor_type.shape.dim]
    assert dims == ["N", graph.outputs[0].shape[1]]
    assert {entry.version for entry in proto.opset_import} == {17}


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_are_unique_and_nodes_in_order(name: str) -> None:
    graph = graph_of(name, init="zeros")
    assert len({node.name for node in graph.nodes}) == len(graph.nodes)
    known = {"input", *graph.initializers}
    for node in graph.nodes:
        assert known.issuperset(node.inputs), node.label
        assert known.isdisjoint(node.outputs), node.label
        known.update(node.outputs)
    read = {name for node in graph.nodes for name in node.inputs}
    assert read.issuperset(graph.initializers), "every weight is used"


def test_names_of_layers() -> None:
    graph = graph_of("resnet18", init="zeros")
    assert {"conv1.weight", "layer1.0.bn1.running_mean", "layer2.0.downsample.1.bias", "fc.weight"} <= set(
        graph.initializers
    )
    assert {"/conv1/Conv", "/layer4/1/bn2/BatchNormalization", "/layer4/1/Relu_1", "/fc/Gemm"} <= {
        node.name for node in graph.nodes
    }


def test_seed_decides_the_weights() -> None:
    assert digest(graph_of("lenet")) == digest(graph_of("lenet", seed=0)) != digest(graph_of("lenet", seed=1))


def test_seed_means_the_same_in_another_process() -> None:
    code = (
        "import hashlib; from nbcnn.zoo import graph_of; g = graph_of('lenet', seed=7); print(hashlib.sha256(b''.join("
        "n.encode() + a.tobytes() for n, a in g.initializers.items())).hexdigest())"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == digest(graph_of("lenet", seed=7))


def test_initialization_reaches_every_layer() -> None:
    graph = graph_of("resnet18", seed=1)
    for name, array in graph.initializers.items():
        if array.ndim > 1:
            fan_in = array[0].size
            assert array.var() == pytest.approx(2 / fan_in, rel=6 * np.sqrt(2 / array.size)), name
        else:
            assert np.all(array == (name.endswith("running_var") or (name.endswith("weight")))), name


@pytest.mark.parametrize("how", ["ones", init.ones], ids=["by name", "by function"])
def test_init_option(how: object) -> None:
    assert np.all(graph_of("lenet", init=how).initializers["fc2.weight"] == 1)


@pytest.mark.parametrize(("size", "pad", "features"), [(28, None, 256), (8, None, 64), (32, 0, 400), (28, 2, 784)])
def test_lenet_fits_its_pictures(size: int, pad: int | None, features: int) -> None:
    graph = graph_of("lenet", size=size, pad=pad, channels=3, classes=7)
    assert graph.inputs[0].shape == ("N", 3, size, size)
    assert graph.initializers["fc1.weight"].shape == (120, features)
    assert graph.outputs[0].shape == ("N", 7)


def test_mlp_takes_pictures() -> None:
    flat, square = graph_of("mlp", sizes=(64, 9, 5)), graph_of("mlp", sizes=(64, 9, 5), shape=(1, 8, 8))
    assert flat.inputs[0].shape == ("N", 64) and square.inputs[0].shape == ("N", 1, 8, 8)
    assert [node.op for node in flat.nodes] == ["Gemm", "Relu", "Gemm"]
    assert [node.op for node in square.nodes] == ["Flatten", "Gemm", "Relu", "Gemm"]
    assert digest(flat) == digest(square)


def test_softmax_on_request() -> None:
    graph = graph_of("lenet", softmax=True)
    assert graph.nodes[-1].op == "Softmax" and graph.nodes[-1].outputs == ["output"]
    onnx.checker.check_model(to_proto(graph), full_check=True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lenot", {}, "the zoo has no network called 'lenot': use one of alexnet, "),
        ("lenet", {"init": "best"}, "no initialization is called 'best'"),
        ("lenet", {"size": 8, "pad": 0}, "lenet: pictures of 8 x 8 are too small for this network"),
        ("lenet", {"channels": 0}, r"lenet: an input of shape \(0, 28, 28\) has no elements"),
        ("vgg16", {"size": 16, "init": "zeros"}, "vgg16: pictures of 16 x 16 are too small"),
        ("mlp", {"sizes": (4,)}, "must be two or more positive numbers"),
        ("mlp", {"sizes": (4, 2), "shape": (2, 3)}, "has 6 elements, but sizes begin with 4"),
        ("resnet18", {"classes": 0, "init": "zeros"}, "resnet18: layer 'fc' would have 0 outputs"),
    ],
)
def test_bad_options(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        graph_of(name, **options)


def test_two_layers_of_one_name() -> None:
    g = GraphBuilder("twice", (4,))
    x = g.gemm(g.input, "fc", 4)
    with pytest.raises(ValueError, match="two layers of twice are called 'fc'"):
        g.gemm(x, "fc", 4)


def test_building_needs_neither_numba_nor_onnx() -> None:
    code = "import sys, nbcnn.zoo as z; z.graph_of('resnet18'); sys.exit(bool({'numba', 'onnx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
