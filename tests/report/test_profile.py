"""Profiles of both sides, and which nodes of them belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from networks import small_resnet

from nbcnn.api import load
from nbcnn.executor import execute, recording
from nbcnn.graph import Graph, Node, Value
from nbcnn.model import Model
from nbcnn.report.layers import layer_rows, outside_ms, parts_of, phases, put_beside
from nbcnn.report.matching import match_nodes
from nbcnn.report.parts import owned_parts
from nbcnn.report.profile import LEAST, PeerNode, PeerProfile, Profile, profile, profile_peer, read_peer_profile
from nbcnn.report.roofline import Roofline
from nbcnn.report.step import RandomStep
from nbcnn.zoo import graph_of

X = np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def found() -> tuple[Model, Profile]:
    model = Model(small_resnet())
    model(X)
    return model, profile(lambda: model(X), seconds=0.0)


def test_steps_follow_each_other_inside_their_call(found: tuple[Model, Profile]) -> None:
    _, mine = found
    assert len(mine.calls) == LEAST and mine.begins.shape == mine.ends.shape == (LEAST, len(mine.plan.steps))
    assert (mine.begins <= mine.ends).all() and (mine.ends[:, :-1] <= mine.begins[:, 1:]).all()
    assert (mine.calls[:, 0] <= mine.begins[:, 0]).all() and (mine.ends[:, -1] <= mine.calls[:, 1]).all()
    assert (mine.node_seconds().sum(axis=1) <= mine.call_seconds()).all()
    assert mine.node_seconds().shape == (LEAST, len(mine.nodes))


def test_a_recording_ends_with_its_block(found: tuple[Model, Profile]) -> None:
    _, mine = found
    with pytest.raises(ZeroDivisionError), recording() as records:
        execute(mine.plan)
        execute(mine.plan, 0, 1)
        with pytest.raises(RuntimeError, match="under way"), recording():
            pass
        raise ZeroDivisionError
    execute(mine.plan)
    assert [len(record.stamps) for record in records] == [len(mine.plan.steps) + 1, 2]


def test_rows_hold_what_was_measured(found: tuple[Model, Profile]) -> None:
    model, mine = found
    rows = layer_rows(mine, parts_of(mine, model.graph), Roofline(100.0, 20.0), model.graph)
    assert sum(row["time_share"] for row in rows) == pytest.approx(1)
    for row in rows:
        low, high = row["quartiles_ms"]
        assert low <= row["ms"] <= high and row["phase"] == "forward"
        assert row["gflops"] == pytest.approx(row["flops"] / row["ms"] / 1e6)
        assert row["roofline"] == pytest.approx(row["least_ms"] / row["ms"])
    assert outside_ms(mine) >= 0


def test_rows_name_layers_as_the_file_does(found: tuple[Model, Profile]) -> None:
    """Batch norms, residual sums and activations belong to the convolution before them."""
    model, mine = found
    rows = layer_rows(mine, parts_of(mine, model.graph), None, model.graph)
    convolutions = {node.name for node in model.graph.nodes if node.op == "Conv"}
    assert convolutions <= {row["name"] for row in rows}
    first = next(row for row in rows if row["name"] == model.graph.nodes[0].name)
    assert first["fused"] == ["BatchNormalization", "Relu"] and "roofline" not in first


def test_phases_of_a_training_step() -> None:
    step = RandomStep(Model(small_resnet()), {"input": X})
    step()
    names = phases(profile(step, seconds=0.0).nodes)
    assert names.count("loss") == 1
    assert set(names[: names.index("loss")]) == {"forward"}
    assert set(names[names.index("loss") + 1 :]) == {"backward", "update"}


def test_gradients_are_named_after_their_layers() -> None:
    model = Model(small_resnet())
    step = RandomStep(model, {"input": X})
    step()
    mine = profile(step, seconds=0.0)
    rows = layer_rows(mine, parts_of(mine, model.graph), None, model.graph)
    layers = {node.name for node in model.graph.nodes if node.op == "Conv"}
    for op in ("ConvInputGrad", "ConvWeightGrad"):
        named = {row["name"] for row in rows if row["op"] == op}
        assert named and named <= layers
    assert sum(row["op"] == "ConvWeightGrad" for row in rows) == len(layers)


def test_owned_parts_of_fused_nodes() -> None:
    source = Graph(
        inputs=[Value("x")],
        nodes=[
            Node("ConstantOfShape", ["shape"], ["w"], name="constant"),
            Node("Conv", ["x", "w"], ["c"], name="conv"),
            Node("Relu", ["c"], ["r"], name="relu"),
            Node("Conv", ["r", "v"], ["d"], name="second"),
            Node("Add", ["d", "r"], ["y"], name="add"),
        ],
    )
    plan = [Node("ToLayout", ["x"], ["x.last"]), Node("Conv", ["x.last"], ["r"]), Node("Conv", ["r", "", "r"], ["y"])]
    names = [[part.name for part in parts] for parts in owned_parts(plan, source)]
    assert names == [[], ["conv", "relu"], ["second", "add"]]


def test_parts_of_nodes_in_another_form() -> None:
    source = Graph(
        inputs=[Value("x")],
        nodes=[Node("Conv", ["x"], ["c"]), Node("Relu", ["c"], ["r"]), Node("Gemm", ["r"], ["y"])],
    )
    plan = [Node("ToBatch", ["x"], ["x.last.blocks"]), Node("BatchConv", ["x.last.blocks"], ["r.blocks"])]
    plan += [Node("FromBatch", ["r.blocks"], ["r.plain.2"]), Node("Gemm", ["r.plain.2"], ["y"])]
    assert [[part.op for part in parts] for parts in owned_parts(plan, source)] == [[], ["Conv", "Relu"], [], ["Gemm"]]


def test_layers_that_are_computed_in_batches_keep_their_names_and_shapes() -> None:
    model = Model(graph_of("lenet", init="glorot_uniform"))
    x = np.random.default_rng(0).standard_normal((64, 1, 28, 28)).astype(np.float32)
    model(x)
    mine = profile(lambda: model(x), seconds=0.0)
    rows = layer_rows(mine, parts_of(mine, model.graph), None, model.graph)
    convolutions = [row for row in rows if row["op"] == "Conv"]
    assert [row["name"] for row in convolutions] == [n.name for n in model.graph.nodes if n.op == "Conv"]
    assert [row["shape"][0] for row in convolutions] == [64, 64]
    assert [row["flops"] for row in convolutions] == [2 * 64 * 6 * 24 * 24 * 25, 2 * 64 * 16 * 8 * 8 * 6 * 25]


def test_names_of_onnxruntime() -> None:
    nodes = [Node("Conv", ["x", "w"], ["c"]), Node("Relu", ["c"], ["r"]), Node("MaxPool", ["r"], ["p"], name="pool_1")]
    source = Graph(nodes=nodes)
    theirs = [
        PeerNode("r_nchwc", "Conv", 9, ()),
        PeerNode("InsertedPrecisionFreeCast_r_nchwc", "Conv", 9, ()),
        PeerNode("r_bn_nchwc", "Conv", 9, ()),
        PeerNode("Relu_1", "Relu", 1, ()),
        PeerNode("pool_1", "MaxPool", 2, ()),
        PeerNode("pool_1_nchwc", "MaxPool", 7, ()),
        PeerNode("ReorderOutput_token_1", "ReorderOutput", 8, ()),
        PeerNode("Relu_0", "Relu", 0, ()),
    ]
    assert match_nodes(theirs, source) == [nodes[1]] * 4 + [nodes[2], nodes[2], None, None]


def test_fused_nodes_without_a_name_are_known_by_their_shape() -> None:
    """Two convolutions of one shape in their order; another shape; and one too many."""
    nodes = [Node("Conv", [f"x{i}", "w"], [f"c{i}"]) for i in range(3)] + [Node("Relu", ["c2"], ["r"])]
    source, shapes = Graph(nodes=nodes), {"c0": (1, 4, 8, 8), "c1": (1, 4, 8, 8), "r": (1, 2, 8, 8)}
    theirs = [PeerNode(f"FusedConv_{k}", "FusedConv", 9, (), (1, size, 8, 8)) for k, size in enumerate((4, 2, 4, 4))]
    assert match_nodes(theirs, source, shapes) == [nodes[0], nodes[2], nodes[1], None]
    assert match_nodes(theirs, source) == [None] * 4


def test_both_profiles_side_by_side(resnet_file: Path) -> None:
    """Whatever onnxruntime renames, each of its convolutions stands beside one of ours."""
    model = load(resnet_file)
    model(X)
    theirs = profile_peer(resnet_file, {"input": X}, threads=1, calls=3)
    mine = profile(lambda: model(X), seconds=0.0)
    parts = parts_of(mine, model.graph)
    rows = layer_rows(mine, parts, None, model.graph)
    nodes = put_beside(rows, parts, theirs, model.graph, {})
    assert len(theirs.runs) == 3 and all(len(node.spans) == 3 for node in theirs.nodes)
    assert all(node["row"] is not None for node in nodes if node["op"] in ("Conv", "FusedConv"))
    assert all(row["peer_ms"] > 0 for row in rows if row["op"] == "Conv")
    beside = sum(row["peer_ms"] or 0.0 for row in rows)
    assert beside == pytest.approx(sum(node["ms"] for node in nodes if node["row"] is not None))
    assert rows[[row["name"] for row in rows].index(model.graph.nodes[0].name)]["peer_ms"] > 0


def test_the_first_run_of_a_peer_profile_is_left_out() -> None:
    node = {"cat": "Node", "name": "a_kernel_time", "args": {"op_name": "Relu", "node_index": "3"}}
    events = [{"cat": "Session", "name": "model_run", "ts": ts, "dur": 10} for ts in (0, 100, 200)]
    events += [node | {"ts": ts + 1, "dur": dur} for ts, dur in ((0, 50), (100, 3), (200, 5))]
    assert read_peer_profile(events) == PeerProfile(
        [PeerNode("a", "Relu", 3, ((101, 3), (201, 5)))], ((100, 10), (200, 10))
    )
    assert read_peer_profile(events).nodes[0].ms == pytest.approx(0.004)
