"""The report on a network as a whole: what it holds, and that it times nothing that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import small_resnet
from onnx import helper

from nbcnn.errors import InputError, ModelError, NbcnnError, UnsupportedError
from nbcnn.model import Model
from nbcnn.onnx_io import write_model
from nbcnn.report import beside, network
from nbcnn.report.agreement import Disagreement
from nbcnn.report.html.network import network_page
from nbcnn.report.network import Request, measure_network
from nbcnn.report.write import as_json


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is measured for the report that all tests share; there, and in no other, by processes of their own."""
    monkeypatch.setattr(network, "measure_apart", lambda *args, **kwargs: None)


def quick(path: Path, **settings: Any) -> dict[str, Any]:
    return measure_network(Request(path, threads=1, seconds=0.05, **settings))[0]


def test_what_is_measured(report: dict[str, Any]) -> None:
    assert report["benchmark"] == "network" and report["network"]["file"] == "small.onnx"
    assert report["network"]["inputs"] == {"input": {"shape": [2, 3, 12, 12], "dtype": "float32"}}
    for part in (report["inference"], report["training"]):
        ours = part["timings"]["nbcnn"]
        assert part["gflops"] == pytest.approx(part["flops"] / ours["median_ms"] / 1e6)
        assert part["samples_per_s"] == pytest.approx(2e3 / ours["median_ms"])
        assert part["flops"] == sum(row["flops"] for row in part["layers"])
        assert part["memory"]["arena_bytes"] > 0 and part["first_run_s"] > 0 and part["outside_ms"] >= 0
        assert 0 < part["share"] < 10
    inference = report["inference"]
    assert set(inference["timings"]) == {"nbcnn", "onnxruntime"} and inference["ratio"] > 0
    assert [d["output"] for d in inference["differences"]] == ["output"]
    assert inference["differences"][0]["max_abs"] < 1e-4
    assert report["training"]["loss"] == "cross_entropy"


def test_multiply_adds_are_those_of_the_summary(report: dict[str, Any], resnet_file: Path) -> None:
    from nbcnn.api import load
    from nbcnn.report.summary import summarize

    products = summarize(load(resnet_file).graph, {"input": (2, 3, 12, 12)}).multiply_adds
    counted = sum(
        row["flops"] for row in report["inference"]["layers"] if row["group"] in ("convolution", "matrix product")
    )
    assert counted == 2 * products


def test_memory_that_cannot_be_measured_is_no_reason_to_fail(
    resnet_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise NbcnnError("out of luck")

    monkeypatch.setattr(network, "measure_apart", fail)
    memory = quick(resnet_file, peer=False)["inference"]["memory"]
    assert memory["resident"] is None and memory["resident_missing"] == "out of luck" and memory["arena_bytes"] > 0


def test_resident_memory_of_both_sides(report: dict[str, Any]) -> None:
    resident = report["inference"]["memory"]["resident"]
    if resident is None:
        pytest.skip("resident memory is read from /proc, which only Linux has")
    assert set(resident) == {"nbcnn", "onnxruntime"}
    assert all(found["before"] > 0 and found["peak"] >= 0 for found in resident.values())
    assert set(report["training"]["memory"]["resident"]) == {"training"}


def test_the_report_is_json_and_names_no_folder(report: dict[str, Any], resnet_file: Path) -> None:
    text = as_json(report)
    json.loads(text)
    assert str(resnet_file.parent) not in text


def test_wrong_results_are_not_timed(resnet_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Model, outputs: object, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [np.full((1, 5), 3.0, np.float32)]

    monkeypatch.setattr(Model, "run", wrong)
    with pytest.raises(Disagreement, match="output 'output': the results differ"):
        quick(resnet_file)


@pytest.mark.parametrize(("ours", "theirs"), [(np.nan, np.nan), (np.inf, np.inf)])
def test_what_is_no_number_on_both_sides_is_left_out(ours: float, theirs: float) -> None:
    a, b = np.array([1.0, 2.0, ours], np.float32), np.array([1.0, 2.0, theirs], np.float32)
    assert beside.difference("y", a, b) == {"max_abs": 0.0, "deviations": 0.0}
    with pytest.raises(Disagreement):
        beside.difference("y", np.array([1.0, 2.0, 0.0], np.float32), b)


def test_what_has_no_deviation_to_speak_of() -> None:
    """A sigmoid's output far below zero: a difference in the last place is many deviations, and means nothing."""
    theirs = np.array([1e-7, 2e-7, 1e-7], np.float32)
    found = beside.difference("y", theirs + np.float32(1e-8), theirs)
    assert found["max_abs"] < 1e-6 and found["deviations"] > 0.1
    with pytest.raises(Disagreement):
        beside.difference("y", theirs + np.float32(1e-3), theirs)


def test_a_batch_that_onnxruntime_refuses(tmp_path: Path) -> None:
    """The file fixes its batch: ours runs any, onnxruntime does not; the report says so and goes on."""
    graph = small_resnet(width=4)
    graph.inputs[0].shape = (1, 3, 12, 12)
    graph.outputs[0].shape = (1, 5)
    write_model(graph, tmp_path / "fixed.onnx")
    part = quick(tmp_path / "fixed.onnx", batch=3)["inference"]
    assert part["peer"] is None and part["ratio"] is None
    assert part["peer_missing"].startswith("it does not run these inputs: ")
    assert "peer_ms" not in part["layers"][0]


def test_alone(resnet_file: Path) -> None:
    part = quick(resnet_file, peer=False)["inference"]
    assert set(part["timings"]) == {"nbcnn"} and part["peer_missing"] == "it was left out"


def test_a_network_that_is_not_a_classifier(tmp_path: Path) -> None:
    """Whole numbers in, pictures out: the step's loss is squared error where the output has more than two axes."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Conv", ["f", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    w = np.random.default_rng(0).standard_normal((2, 1, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.INT64, ["N", 1, 6, 6])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 2, 6, 6])],
        [onnx.numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    found = quick(tmp_path / "m.onnx", train=True, dims={"N": 2})
    assert found["network"]["inputs"]["x"] == {"shape": [2, 1, 6, 6], "dtype": "int64"}
    assert found["training"]["loss"] == "squared_error"


def test_a_network_without_inputs(tmp_path: Path) -> None:
    value = onnx.numpy_helper.from_array(np.ones(3, np.float32), "c")
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [3])
    graph = helper.make_graph([helper.make_node("Identity", ["c"], ["y"])], "g", [], [output], [value])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"m\.onnx: this network takes no input"):
        quick(tmp_path / "m.onnx")


def flat(path: Path) -> Path:
    """A network that computes nothing: (N, 3, 4) -> (N, 12)."""
    ports = [
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (("x", ["N", 3, 4]), ("y", ["N", 12]))
    ]
    graph = helper.make_graph([helper.make_node("Flatten", ["x"], ["y"])], "g", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_network_that_computes_nothing(tmp_path: Path) -> None:
    found = quick(flat(tmp_path / "flat.onnx"))
    assert found["inference"]["layers"] == [] and found["inference"]["flops"] == 0
    assert "computes nothing" in network_page(found)


def test_what_cannot_be_trained_is_said_before_anything_is_timed(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"flat\.onnx: cannot be trained: it has no weights"):
        quick(flat(tmp_path / "flat.onnx"), train=True)


def test_dimensions_by_name(resnet_file: Path) -> None:
    with pytest.raises(InputError, match=r"no dimension 'M'; those of this network are \['N'\]"):
        quick(resnet_file, dims={"M": 3})
