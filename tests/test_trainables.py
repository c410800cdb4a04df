"""Which weights are trained, what freezing leaves alone, and which ties are meant."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from networks import batch, onnxruntime_run, proto, small_resnet, stir
from onnx import helper

import nbcnn
from nbcnn.errors import InputError
from nbcnn.onnx_io import to_proto
from nbcnn.trainables import trainable, untie

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def carried() -> onnx.ModelProto:
    """Every weight arrives through something else: w through Transpose, v through Reshape, b through Identity."""
    nodes = [
        helper.make_node("Reshape", ["v", "kernel"], ["v2"]),
        helper.make_node("Conv", ["x", "v2"], ["h"], "conv"),
        helper.make_node("Reshape", ["shift", "column"], ["shift2"]),
        helper.make_node("Add", ["h", "shift2"], ["hs"], "add"),
        helper.make_node("Relu", ["hs"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["f", "wt"], ["m"], "matmul"),
        helper.make_node("Identity", ["b"], ["b2"]),
        helper.make_node("Add", ["m", "b2"], ["a"], "bias"),
        helper.make_node("Mul", ["a", "scale"], ["y"], "scale"),
    ]
    arrays = {
        "v": floats(4, 18),
        "kernel": np.array([4, 2, 3, 3], np.int64),
        "shift": floats(4),
        "column": np.array([1, 4, 1, 1], np.int64),
        "w": floats(3, 16),
        "b": floats(3),
        "scale": np.full(1, 0.5, np.float32),
    }
    return proto(nodes, {"x": ["N", 2, 4, 4]}, {"y": ["N", 3]}, arrays)


def changed(model: nbcnn.Model, before: dict[str, np.ndarray]) -> set[str]:
    return {name for name, p in model.parameters.items() if not np.array_equal(p.value, before[name])}


def values(model: nbcnn.Model) -> dict[str, np.ndarray]:
    return {name: p.value for name, p in model.parameters.items()}


def test_weights_that_arrive_through_carriers_are_trained_and_saved() -> None:
    """The new weights stand where the file has them, in the file's shapes."""
    model = nbcnn.load(carried())
    before = values(model)
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.05))
    assert trainer.trained == ["v", "shift", "w", "b"]
    x, t = batch((7, 2, 4, 4), 3)
    losses = [trainer.step(x, t) for _ in range(8)]
    assert losses[-1] < losses[0]
    assert changed(model, before) == {"v", "shift", "w", "b"}
    saved = to_proto(model.trained_graph())
    assert saved.graph.node == carried().graph.node
    np.testing.assert_allclose(onnxruntime_run(saved, {"x": x})[0], model(x), rtol=0, atol=1e-5)


def test_one_step_through_carriers_by_hand() -> None:
    """Only b and scale matter where x is zero: the gradient of the loss is softmax(y) - onehot(t), times scale."""
    model = nbcnn.load(carried())
    for name in ("v", "shift", "w"):
        model.parameters[name].value = np.zeros(model.parameters[name].shape)
    b = model.parameters["b"].value
    nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.1)).step(np.zeros((1, 2, 4, 4), np.float32), [2])
    y = np.exp(0.5 * b) / np.exp(0.5 * b).sum()
    np.testing.assert_allclose(model.parameters["b"].value, b - 0.1 * 0.5 * (y - [0, 0, 1]), rtol=0, atol=1e-6)


def test_train_adds_what_is_not_trained_by_default() -> None:
    model = nbcnn.load(carried())
    before = values(model)
    nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.05), train=["sca*"]).step(*batch((4, 2, 4, 4), 3))
    assert changed(model, before) == {"v", "shift", "w", "b", "scale"}


@pytest.mark.parametrize(
    ("freeze", "left"),
    [
        (["w"], {"v", "shift", "b"}),
        (["conv"], {"shift", "w", "b"}),
        (["matmul", "shift"], {"v", "b"}),
        (["[vw]"], {"shift", "b"}),
    ],
)
def test_freeze_leaves_weights_alone_bit_for_bit(freeze: list[str], left: set[str]) -> None:
    model = nbcnn.load(carried())
    before = values(model)
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.05, momentum=0.9, weight_decay=0.1), freeze=freeze)
    for _ in range(2):
        trainer.step(*batch((4, 2, 4, 4), 3))
    assert changed(model, before) == left
    for name in set(before) - left:
        np.testing.assert_array_equal(model.trained_graph().initializers[name], before[name], strict=True)


def test_patterns_that_fit_nothing_or_everything() -> None:
    with pytest.raises(InputError, match=r"pattern 'layer9\.\*' fits no weight and no node"):
        nbcnn.Trainer(nbcnn.load(carried()), freeze=["layer9.*"])
    with pytest.raises(InputError, match=r"pattern 'nothing' fits no"):
        nbcnn.Trainer(nbcnn.load(carried()), train=["nothing"])
    with pytest.raises(InputError, match="nothing is left to train"):
        nbcnn.Trainer(nbcnn.load(carried()), freeze=["*"])


# --- batch norm


BN_WEIGHTS = ("weight", "bias", "running_mean", "running_var")


@pytest.mark.parametrize("pattern", ["layer1.bn1.*", "/layer1/bn1/*", "layer1.bn1.weight", "layer1.bn1.running_var"])
def test_a_frozen_batch_norm_stays_as_at_inference(pattern: str) -> None:
    model = nbcnn.Model(stir(small_resnet()))
    before = values(model)
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.05), freeze=[pattern])
    trainer.step(*batch((4, 3, 12, 12), 5))
    assert set(before) - changed(model, before) == {f"layer1.bn1.{name}" for name in BN_WEIGHTS}


def test_freezing_a_convolution_does_not_freeze_the_batch_norm_behind_it() -> None:
    """The pattern fits the name of the convolution's output too, which the batch norm reads."""
    model = nbcnn.Model(stir(small_resnet()))
    before = values(model)
    nbcnn.Trainer(model, freeze=["/layer1/conv1/*"]).step(*batch((4, 3, 12, 12), 5))
    assert set(before) - changed(model, before) == {"layer1.conv1.weight"}


def test_a_wholly_frozen_batch_norm_network_has_inference_outputs_while_training() -> None:
    """With every batch norm frozen, the loss of a step is that of what `run` gives."""
    model = nbcnn.Model(stir(small_resnet()))
    x, t = batch((4, 3, 12, 12), 5)
    y = model(x).astype(np.float64)
    want = np.mean(np.log(np.exp(y).sum(1)) - y[np.arange(4), t])
    free, frozen = nbcnn.Trainer(nbcnn.Model(stir(small_resnet()))), nbcnn.Trainer(model, freeze=["*bn?.*", "*.1.*"])
    assert abs(free.step(x, t) - want) > 1e-3
    assert frozen.step(x, t) == pytest.approx(want, abs=1e-5)


# --- ties


def merged() -> onnx.ModelProto:
    """As PyTorch's exporter writes two layers of equal weights and equal biases: one tensor, handed on by Identity."""
    nodes = [
        helper.make_node("Identity", ["w"], ["w2"], "tie w"),
        helper.make_node("Identity", ["b"], ["b2"], "tie b"),
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"], "second"),
    ]
    arrays = {"w": floats(4, 4), "b": np.zeros(4, np.float32)}
    return proto(nodes, {"x": ["N", 4]}, {"y": ["N", 4]}, arrays)


def shared() -> onnx.ModelProto:
    """One layer applied twice."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w", "b"], ["y"], "second"),
    ]
    return proto(nodes, {"x": ["N", 4]}, {"y": ["N", 4]}, {"w": floats(4, 4), "b": np.zeros(4, np.float32)})


def test_ties_that_an_exporter_made_are_trained_apart() -> None:
    model = nbcnn.load(merged())
    x, t = batch((6, 4), 4)
    before = model(x)
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.2))
    np.testing.assert_array_equal(model(x), before)
    for _ in range(3):
        trainer.step(x, t)
    assert set(trainer.trained) == {"w", "b", "w2", "b2"}
    assert not np.array_equal(model.parameters["w"].value, model.parameters["w2"].value)
    saved = to_proto(model.trained_graph())
    assert [n.name for n in saved.graph.node] == ["first", "relu", "second"]
    assert {i.name for i in saved.graph.initializer} == {"w", "b", "w2", "b2"}
    np.testing.assert_allclose(onnxruntime_run(saved, {"x": x})[0], model(x), rtol=0, atol=1e-5)


def test_a_weight_that_is_shared_on_purpose_stays_shared() -> None:
    """Its gradient is the sum of both uses: against a difference quotient of the loss along that gradient."""
    model = nbcnn.load(shared(), dtype="float64")
    x, t = batch((6, 4), 4)
    before = model.parameters["w"].value
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=1.0), freeze=["b"])
    trainer.step(x, t)
    gradient = before - model.parameters["w"].value
    assert set(model.parameters) == {"w", "b"}
    assert to_proto(model.trained_graph()).graph.node == shared().graph.node

    def loss(w: np.ndarray) -> float:
        y = np.maximum(x.astype(np.float64) @ w, 0) @ w
        return float(np.mean(np.log(np.exp(y).sum(1)) - y[np.arange(6), t]))

    v = RNG.standard_normal((4, 4))
    step = 1e-6
    slope = (loss(before + step * v) - loss(before - step * v)) / (2 * step)
    assert (gradient * v).sum() == pytest.approx(slope, abs=1e-7)


def test_untie_leaves_the_source_and_single_identities_alone() -> None:
    graph = nbcnn.load(carried()).graph
    assert [n.op for n in untie(graph).nodes] == [n.op for n in graph.nodes]
    graph = nbcnn.load(merged()).graph
    copy = untie(graph)
    assert len(graph.nodes) == 5 and len(copy.nodes) == 3
    assert not np.shares_memory(copy.initializers["w2"], graph.initializers["w"])
    assert trainable(copy) == ["w", "b", "w2", "b2"]


def test_running_statistics_are_not_trained() -> None:
    graph = small_resnet()
    statistics = {name for node in graph.nodes if node.op == "BatchNormalization" for name in node.inputs[3:]}
    assert statistics and statistics.isdisjoint(trainable(graph, train=["*"]))
    name = min(statistics)
    with pytest.raises(InputError, match=f"pattern '{name}' fits running statistics only"):
        trainable(graph, train=[name])
