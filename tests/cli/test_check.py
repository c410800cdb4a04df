"""`nbcnn check` and `nbcnn validate`: what they say of networks, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from onnx import helper, numpy_helper

import nbcnn.onnx_io.validation
from nbcnn import autotune
from nbcnn.graph import Graph, Node, Value
from nbcnn.model import Model
from nbcnn.ops import REGISTRY
from nbcnn.passes.algorithms import by_cost
from nbcnn.report.check import check
from nbcnn.report.notes import training_notes
from nbcnn.zoo import graph_of

from .conftest import real
from .test_bad_input import odd_model

Cli = Callable[..., Result]


def test_lenet_runs_and_trains(cli: Cli, lenet: Path) -> None:
    result = cli("check", lenet)
    assert result.exit_code == 0, result.output
    assert "this network can run and be trained" in result.stdout
    found = json.loads(cli("check", lenet, "--json").stdout)
    assert found["runs"] and found["trains"]
    assert len(found["trained"]) == 10
    assert all(node["runs"] and node["trains"] for node in found["nodes"])


def test_every_unsupported_node_is_named(cli: Cli, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Binarizer", ["x"], ["a"], "one", domain="ai.onnx.ml"),
        helper.make_node("Relu", ["a"], ["b"], "two"),
        helper.make_node("Normalizer", ["b"], ["y"], "three", domain="ai.onnx.ml"),
    ]
    (tmp_path / "m.onnx").write_bytes(odd_model(nodes).SerializeToString())
    result = cli("check", tmp_path / "m.onnx")
    assert result.exit_code == 1
    assert "Binarizer 'one': operator ai.onnx.ml.Binarizer is not supported" in result.stdout
    assert "Normalizer 'three': operator ai.onnx.ml.Normalizer is not supported" in result.stdout
    assert "1 nodes behind these could not be looked at" in result.stdout
    assert "this network cannot run" in result.stdout


def test_other_nodes_of_the_same_operator_are_told_apart(cli: Cli, tmp_path: Path) -> None:
    """One Reshape fits, one does not."""
    nodes = [
        helper.make_node("Reshape", ["x", "good"], ["a"], "fits"),
        helper.make_node("Reshape", ["x", "bad"], ["y"], "does not"),
    ]
    arrays = {"good": np.array([3, 1]), "bad": np.array([7, 1])}
    (tmp_path / "m.onnx").write_bytes(odd_model(nodes, **arrays).SerializeToString())
    found = json.loads(cli("check", tmp_path / "m.onnx", "--json", "--shape", "1,3").stdout)
    assert [node["runs"] for node in found["nodes"]] == [True, False]
    assert found["nodes"][1]["reason"]


def network(op: str, **attrs: object) -> Graph:
    """x (1, 3) -> Gemm -> op -> y."""
    graph = Graph(opset={"": 17})
    graph.initializers = {"w": np.ones((3, 3), np.float32)}
    graph.nodes = [Node("Gemm", ["x", "w"], ["a"], {}, "gemm"), Node(op, ["a"], ["y"], dict(attrs), "last")]
    graph.inputs, graph.outputs = [Value("x", np.dtype(np.float32), (1, 3))], [Value("y")]
    return graph


def test_operator_that_cannot_be_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(type(REGISTRY["Softmax"]), "grad")
    report = check(Model(network("Softmax", axis=-1)), {"x": (1, 3)})
    assert report.runs and not report.trains
    assert [node.trains for node in report.nodes] == [True, False]
    assert report.nodes[1].reason == "Softmax cannot be trained through"


def test_nothing_to_train() -> None:
    graph = network("Relu")
    graph.nodes = [Node("Relu", ["x"], ["y"], {}, "only")]
    report = check(Model(graph), {"x": (1, 3)})
    assert report.runs and not report.trains and not report.trained


@pytest.mark.parametrize(
    ("name", "trains"),
    [
        ("mnist-8/model", True),
        ("squeezenet-1.1/squeezenet-1.1", True),
        ("resnet20-cifar10/resnet20_cifar10", True),
        ("mobilenet-v2/mobilenet-v2", True),
        ("super-resolution-10/model", True),
        ("yunet-n/yunet_n_320_320", True),
    ],
)
def test_real_networks(cli: Cli, name: str, trains: bool) -> None:
    found = json.loads(cli("check", real(f"models/{name}.onnx"), "--json").stdout)
    assert found["runs"], [node for node in found["nodes"] if not node["runs"]]
    assert found["trains"] is trains, [node for node in found["nodes"] if node["trains"] is False]


# --- what an export took away


def without(graph: Graph, *ops: str) -> Graph:
    """The network with these nodes taken out, as an export for inference does; a folded batch norm leaves biases."""
    graph, names = graph.copy(), dict[str, str]()
    kept = []
    for node in graph.nodes:
        node.inputs = [names.get(name, name) for name in node.inputs]
        if node.op in ops:
            names[node.outputs[0]] = node.inputs[0]
        else:
            kept.append(node)
    graph.nodes = kept
    return graph


def folded(name: str) -> Graph:
    graph = without(graph_of(name, init="zeros"), "BatchNormalization")
    for node in graph.nodes:
        if node.op == "Conv" and len(node.inputs) == 2:
            graph.initializers[f"{node.inputs[1]}.bias"] = np.zeros(
                graph.initializers[node.inputs[1]].shape[0], np.float32
            )
            node.inputs.append(f"{node.inputs[1]}.bias")
    return graph


def test_whole_networks_have_no_notes() -> None:
    for name in ("lenet", "mlp", "resnet18"):
        assert training_notes(graph_of(name, init="zeros")).texts == []


def test_batch_norm_folded_away() -> None:
    note = training_notes(folded("resnet18")).batch_norm
    assert note.startswith("its batch norm was folded into its convolutions (the residual Add")
    assert "learning rate of about a tenth" in note and "--lr" in note
    graph = folded("resnet18")
    for node in graph.nodes:
        if node.op == "Conv":
            graph.initializers["onnx::Conv_123"] = graph.initializers.pop(node.inputs[1])
            node.inputs[1] = "onnx::Conv_123"
            break
    assert "'onnx::Conv_123'" in training_notes(graph).batch_norm


def test_batch_norm_that_may_never_have_been() -> None:
    notes = training_notes(graph_of("vgg16", init="zeros"))
    assert notes.batch_norm.startswith("it has no batch norm: it was built without, or")
    assert not notes.dropout


def test_dropout_removed() -> None:
    notes = training_notes(without(graph_of("vgg16", init="zeros"), "Dropout"))
    assert "no Dropout after its wide layer Gemm '/classifier/0/Gemm'" in notes.dropout
    assert "--weight-decay" in notes.dropout


def test_check_and_train_say_it(cli: Cli, tmp_path: Path) -> None:
    model = real("models/mobilenet-v2/mobilenet-v2.onnx")
    assert "note: its batch norm was folded into its convolutions (depthwise" in cli("check", model).stderr
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3, 224, 224), np.float32), y=np.arange(2))
    result = cli("train", model, "--data", tmp_path / "d.npz", "--epochs", 1, "--out", tmp_path / "out.onnx")
    assert "note: its batch norm was folded into its convolutions (depthwise" in result.stderr, result.output


# --- validate


def test_validate(cli: Cli, lenet: Path, tmp_path: Path) -> None:
    result = cli("validate", lenet, "--dim", "N=3", "--exact")
    assert result.exit_code == 0, result.output
    assert "output" in result.stdout and "3x10" in result.stdout and "agrees with onnxruntime" in result.stdout
    np.savez(tmp_path / "x.npz", input=np.zeros((5, 1, 8, 8), np.float32))
    assert "5x10" in cli("validate", lenet, "--data", tmp_path / "x.npz").stdout


def test_validate_exits_with_1_where_outputs_differ(cli: Cli, lenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(nbcnn.onnx_io.validation.TOLERANCES, "float32", (-1.0, 0.0))
    result = cli("validate", lenet)
    assert result.exit_code == 1
    assert "differs" in result.stdout and "1 of 1 outputs differ from onnxruntime" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["validate", "warmup"])
def test_autotune(cli: Cli, lenet: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    used = []

    def tuner(threads: int) -> object:
        used.append(threads)
        return by_cost

    monkeypatch.setattr(autotune, "Tuner", tuner)
    for options, count in (([], 0), (["--autotune"], 1)):
        assert cli(command, lenet, *options).exit_code == 0
        assert len(used) == count


def test_validate_wrong_names(fails: Callable[..., str], lenet: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", other=np.zeros((5, 1, 8, 8), np.float32))
    assert "the model takes inputs ['input'], but ['other'] were given" in fails(
        "validate", lenet, "--data", tmp_path / "x.npz"
    )


def test_tensor_files(tmp_path: Path) -> None:
    from nbcnn.onnx_io.tensor_file import read_tensor

    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    (tmp_path / "x.pb").write_bytes(numpy_helper.from_array(array, "x").SerializeToString())
    name, found = read_tensor(tmp_path / "x.pb")
    assert name == "x" and np.array_equal(found, array)
