"""Trainer.step: losses, targets, outputs, and what is refused before anything changes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import pytest
from networks import assert_close, batch, proto, small_resnet, stir
from onnx import helper

import nbcnn
from nbcnn.errors import DataError, InputError, ModelError, NbcnnError, TrainingError
from nbcnn.zoo import graph_of

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def linear(*tail: onnx.NodeProto, out: str = "y", shape: list[int | str] | None = None) -> onnx.ModelProto:
    """h (N, 3) = x (N, 4) w + b, then the nodes of `tail` that lead to `out`."""
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h"], "gemm"), *tail]
    arrays = {"w": floats(4, 3), "b": floats(3), "pixel": np.array([0, 3, 1, 1], np.int64)}
    return proto(nodes, {"x": ["N", 4]}, {out: shape or ["N", 3]}, arrays)


def scores(model: nbcnn.Model, x: np.ndarray) -> np.ndarray:
    """h, computed by NumPy from the model's present weights."""
    return x.astype(np.float64) @ model.parameters["w"].value + model.parameters["b"].value


def cross_entropy(y: np.ndarray, t: np.ndarray) -> float:
    return float(np.mean(np.log(np.exp(y).sum(1)) - y[np.arange(len(t)), t]))


def values(model: nbcnn.Model) -> dict[str, np.ndarray]:
    return {name: p.value for name, p in model.parameters.items()}


def assert_unchanged(model: nbcnn.Model, before: dict[str, np.ndarray]) -> None:
    for name, array in before.items():
        np.testing.assert_array_equal(model.parameters[name].value, array, name)


# --- the loss


def test_step_returns_the_loss_before_its_update() -> None:
    model = nbcnn.load(linear(out="h"))
    x, t = batch((5, 4), 3)
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.5))
    for _ in range(3):
        want = cross_entropy(scores(model, x), t)
        assert trainer.step(x, t) == pytest.approx(want, abs=1e-6)


LOSSES = {
    "squared_error": lambda p, t: np.mean((p - t) ** 2),
    "binary_cross_entropy": lambda p, t: -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p)),
    "dice": lambda p, t: np.mean(1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_probabilities(loss: str) -> None:
    """Their values, and that a small step along the gradient lowers them by lr times its squared length."""
    model = nbcnn.load(linear(helper.make_node("Sigmoid", ["h"], ["y"])), dtype="float64")
    x, t = batch((5, 4), 3)[0], np.eye(3)[[0, 2, 1, 1, 0]]
    before = values(model)

    def value() -> float:
        return float(LOSSES[loss](1 / (1 + np.exp(-scores(model, x))), t))

    first, lr = value(), 1e-4
    assert nbcnn.Trainer(model, loss, nbcnn.SGD(lr=lr)).step(x, t) == pytest.approx(first, abs=1e-12)
    squared = sum(((before[n] - model.parameters[n].value) ** 2).sum() for n in before) / lr**2
    assert first - value() == pytest.approx(lr * squared, rel=1e-3)


def test_hinge_and_logits() -> None:
    (x, t), source = batch((5, 4), 3), linear(out="h")
    model = nbcnn.load(source)
    y = scores(model, x)
    margins = np.maximum(0, 1 + y - y[np.arange(5), t][:, None])
    margins[np.arange(5), t] = 0
    assert nbcnn.Trainer(model, "hinge").step(x, t) == pytest.approx(margins.sum(1).mean(), abs=1e-6)
    trainer = nbcnn.Trainer(nbcnn.load(source), "binary_cross_entropy_with_logits")
    want = np.mean(np.log1p(np.exp(-y)) + (1 - np.eye(3)[t]) * y)
    assert trainer.step(x, np.eye(3)[t]) == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(["Softmax"], id="softmax"),
        pytest.param(["LogSoftmax"], id="log softmax"),
        pytest.param(["Softmax", "Reshape"], id="softmax, reshape"),
        pytest.param(["Reshape", "Softmax"], id="reshape, softmax over pixels of one"),
        pytest.param(["Softmax", "Identity"], id="softmax, identity"),
    ],
)
def test_cross_entropy_is_taken_of_what_goes_into_the_softmax(tail: list[str]) -> None:
    nodes, name = [], "h"
    for k, op in enumerate(tail):
        inputs = [name, "pixel"] if op == "Reshape" else [name]
        nodes.append(helper.make_node(op, inputs, [f"v{k}"], f"tail {op}", **({"axis": 1} if "max" in op else {})))
        name = f"v{k}"
    shape: list[int | str] = ["N", 3, 1, 1] if "Reshape" in tail else ["N", 3]
    model = nbcnn.load(linear(*nodes, out=name, shape=shape))
    x, t = batch((5, 4), 3)
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.5))
    losses = []
    for _ in range(3):
        losses.append(trainer.step(x, t))
        y = scores(model, x)
    want = np.exp(y) / np.exp(y).sum(1, keepdims=True)
    got = model(x).reshape(5, 3)
    assert_close(np.exp(got) if tail == ["LogSoftmax"] else got, want, 1e-6)  # and run still has the softmax
    assert losses[2] < losses[0]
    assert_close(trainer.predict(x).reshape(5, 3), y, 1e-5)


def test_large_scores_do_not_overflow_through_a_softmax() -> None:
    """softmax first, logarithm later would give an infinite loss here."""
    model = nbcnn.load(linear(helper.make_node("Softmax", ["h"], ["y"], axis=1)))
    model.parameters["w"].value = np.zeros((4, 3))
    model.parameters["b"].value = np.array([500.0, 0.0, -500.0])
    assert nbcnn.Trainer(model).step(np.ones((1, 4), np.float32), [2]) == pytest.approx(1000.0)


def test_one_hot_and_class_numbers_are_the_same() -> None:
    x, t = batch((5, 4), 3)
    source, found = linear(out="h"), []
    for target in (t, t.tolist(), t.astype(np.uint8), np.eye(3)[t], np.eye(3, dtype=np.float32)[t]):
        trainer = nbcnn.Trainer(nbcnn.load(source), optimizer=nbcnn.SGD(lr=0.5))
        found.append([trainer.step(x, target) for _ in range(2)])
    np.testing.assert_allclose(found, np.broadcast_to(found[0], (5, 2)), rtol=0, atol=1e-6)


def test_soft_targets() -> None:
    x, soft = batch((5, 4), 3)[0], np.random.default_rng(1).dirichlet([1, 1, 1], 5)
    model = nbcnn.load(linear(out="h"))
    y = scores(model, x)
    want = -(soft * (y - np.log(np.exp(y).sum(1, keepdims=True)))).sum(1).mean()
    assert nbcnn.Trainer(model).step(x, soft) == pytest.approx(want, abs=1e-6)


def test_penalties_act_on_weights_but_not_on_biases() -> None:
    """A zero input leaves on w only the penalties' gradients, l1 * sign(w) + l2 * w. The loss is that of the data."""
    model = nbcnn.load(linear(out="h"), dtype="float64")
    before, x, t = values(model), np.zeros((1, 4)), np.array([1])
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.1), l1=0.03, l2=0.5)
    want = cross_entropy(scores(model, x), t)
    assert trainer.step(x, t) == pytest.approx(want, abs=1e-9)
    w, b = before["w"], before["b"]
    assert_close(model.parameters["w"].value, w - 0.1 * (0.03 * np.sign(w) + 0.5 * w), 1e-12)
    gradient = np.exp(b) / np.exp(b).sum() - [0, 1, 0]
    assert_close(model.parameters["b"].value, b - 0.1 * gradient, 1e-12)


def test_schedule_and_changed_settings() -> None:
    model = nbcnn.load(linear(out="h"), dtype="float64")
    x, t = batch((5, 4), 3)
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.1), schedule=lambda step: {1: 1.0, 2: 0.0}.get(step, 0.5))
    rates, moves = [], []
    for _ in range(3):
        before = model.parameters["b"].value
        y = np.exp(scores(model, x))
        gradient = (y / y.sum(1, keepdims=True) - np.eye(3)[t]).mean(0)
        rates.append(trainer.lr)
        trainer.step(x, t)
        moves.append(float(np.mean((before - model.parameters["b"].value) / gradient)))
    np.testing.assert_allclose(rates, [0.1, 0.0, 0.05])
    np.testing.assert_allclose(moves, rates, atol=1e-9)


# --- several inputs and outputs


def test_one_of_several_outputs() -> None:
    nodes = [helper.make_node("Gemm", [a, w], [out], out) for a, w, out in (("x", "w", "y"), ("x", "v", "z"))]
    source = proto(nodes, {"x": ["N", 4]}, {"y": ["N", 3], "z": ["N", 2]}, {"w": floats(4, 3), "v": floats(4, 2)})
    x, t = batch((5, 4), 2)
    with pytest.raises(InputError, match=r"2 outputs, \['y', 'z'\]: say which one to train with output="):
        nbcnn.Trainer(nbcnn.load(source))
    with pytest.raises(InputError, match=r"no output 'q'; this network gives \['y', 'z'\]"):
        nbcnn.Trainer(nbcnn.load(source), output="q")
    model = nbcnn.load(source)
    before = values(model)
    want = cross_entropy(x.astype(np.float64) @ before["v"], t)
    assert nbcnn.Trainer(model, output="z").step(x, t) == pytest.approx(want, abs=1e-6)
    np.testing.assert_array_equal(model.parameters["w"].value, before["w"])
    assert not np.array_equal(model.parameters["v"].value, before["v"])


def test_several_inputs() -> None:
    nodes = [helper.make_node("Gemm", ["a", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])]
    model = nbcnn.load(proto(nodes, {"a": ["N", 4], "b": ["N", 3]}, {"y": ["N", 3]}, {"w": floats(4, 3)}))
    (a, t), b = batch((5, 4), 3), batch((5, 3), 3)[0]
    want = cross_entropy(a.astype(np.float64) @ model.parameters["w"].value + b, t)
    assert nbcnn.Trainer(model).step({"a": a, "b": b}, t) == pytest.approx(want, abs=1e-6)


def test_an_output_that_no_weight_leads_to() -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"]), helper.make_node("Relu", ["x"], ["z"])]
    model = nbcnn.load(proto(nodes, {"x": ["N", 4]}, {"y": ["N", 3], "z": ["N", 4]}, {"w": floats(4, 3)}))
    with pytest.raises(ModelError, match="'z' depends on no trainable weight"):
        nbcnn.Trainer(model, output="z").step(*batch((5, 4), 4))


# --- what is refused: one line, and nothing has changed


@pytest.mark.parametrize(
    ("x", "t", "words"),
    [
        (np.zeros((2, 5)), [0, 1], ["'x'", "[2, 5]"]),
        (np.zeros((2, 4)), [0], ["targets", "(2,)", "(1,)"]),
        (np.zeros((2, 4)), np.zeros((2, 4)), ["targets", "(2, 4)"]),
        (np.zeros((2, 4)), ["cat", "dog"], ["targets must be numbers"]),
        (np.zeros((2, 4)), [[0], [0, 1]], ["targets", "rows"]),
        (np.zeros((2, 4)), [0, 3], ["label 3 of sample 1", "3 classes, 0 to 2"]),
        (np.zeros((2, 4)), [-1, 0], ["label -1 of sample 0"]),
    ],
)
def test_what_does_not_fit(x: np.ndarray, t: object, words: list[str]) -> None:
    model = nbcnn.load(linear(out="h"))
    trainer = nbcnn.Trainer(model)
    trainer.step(*batch((2, 4), 3))
    before = values(model)
    with pytest.raises((InputError, DataError)) as error:
        trainer.step(x, t)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value), error.value
    assert_unchanged(model, before)
    assert trainer.steps_done == 1


def test_unknown_losses_and_settings() -> None:
    model = nbcnn.load(linear(out="h"))
    with pytest.raises(InputError, match=r"loss 'mse' is none of cross_entropy, squared_error"):
        nbcnn.Trainer(model, "mse")
    with pytest.raises(InputError, match="lr must be"):
        nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=-1))
    with pytest.raises(InputError, match="l2 must be"):
        nbcnn.Trainer(model, l2=-1.0).step(*batch((2, 4), 3))


def test_a_loss_that_is_no_number_stops_before_anything_changes() -> None:
    model = nbcnn.Model(stir(small_resnet()))
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.25, momentum=0.9))
    x, t = batch((4, 3, 12, 12), 5)
    trainer.step(x, t)
    before, states = values(model), {name: array.copy() for name, array in trainer._states.items()}
    bad = x.copy()
    bad[2, 1, 3, 3] = np.nan
    with pytest.raises(TrainingError, match=r"the loss is nan at step 2 with learning rate 0\.25: lower") as error:
        trainer.step(bad, t)
    assert "\n" not in str(error.value)
    assert_unchanged(model, before)
    for name, array in states.items():
        if name.endswith("velocity"):
            np.testing.assert_array_equal(trainer._states[name], array)
    assert np.isfinite(trainer.step(x, t))


def test_operators_that_cannot_be_trained_through_are_named() -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["h"]), helper.make_node("NonZero", ["h"], ["y"], "here")]
    model = nbcnn.load(proto(nodes, {"x": ["N", 4]}, {"y": [2, "K"]}, {"w": floats(4, 3)}))
    with pytest.raises(NbcnnError, match="NonZero 'here'"):
        nbcnn.Trainer(model).step(*batch((5, 4), 2))


# --- runs are reproducible


def test_smaller_batches_in_between_use_the_same_weights() -> None:
    """Steps of other sizes are steps on the same weights and the same momentum: against plain NumPy."""
    model = nbcnn.load(linear(out="h"), dtype="float64")
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.3, momentum=0.9))
    w, b = model.parameters["w"].value, model.parameters["b"].value
    vw, vb = np.zeros_like(w), np.zeros_like(b)
    for k, n in enumerate([4, 4, 2, 4, 1, 3, 4, 2, 5]):
        x, t = batch((n, 4), 3, seed=k)
        y = x.astype(np.float64) @ w + b
        want = cross_entropy(y, t)
        dy = (np.exp(y) / np.exp(y).sum(1, keepdims=True) - np.eye(3)[t]) / n
        vw, vb = 0.9 * vw + x.astype(np.float64).T @ dy, 0.9 * vb + dy.sum(0)
        w, b = w - 0.3 * vw, b - 0.3 * vb
        assert trainer.step(x, t) == pytest.approx(want, abs=1e-12)
    assert_close(model.parameters["w"].value, w, 1e-12)


def test_training_does_not_depend_on_the_number_of_threads() -> None:
    before, found = nbcnn.get_num_threads(), []
    x, t = batch((33, 1, 28, 28), 10)
    try:
        for threads in (1, before):
            nbcnn.set_num_threads(threads)
            model = nbcnn.Model(graph_of("lenet"))
            trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.05, momentum=0.9))
            losses = [trainer.step(x, t) for _ in range(3)]
            found.append((losses, values(model)))
    finally:
        nbcnn.set_num_threads(before)
    assert found[0][0] == found[1][0]
    for name, array in found[0][1].items():
        np.testing.assert_array_equal(array, found[1][1][name])


def test_the_data_is_learned() -> None:
    model = nbcnn.Model(graph_of("mlp"))
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.Adam(lr=1e-3))
    x, t = batch((16, 784), 10)
    losses = [trainer.step(x, t) for _ in range(30)]
    assert all(b < a for a, b in pairwise(losses[5:10])) and losses[-1] < 0.05
    assert (trainer.predict(x).argmax(1) == t).all()


# --- arguments that are wrong


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "sgd"}, "optimizer must be one such as"),
        ({"freeze": "gemm"}, "take lists of patterns"),
        ({"train": "w"}, "take lists of patterns"),
        ({"l2": -1.0}, "l2 must be"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 2**70}, "seed must be"),
    ],
)
def test_wrong_arguments(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        nbcnn.Trainer(nbcnn.load(linear(out="h")), **options)


def test_whole_numbers_as_one_hot_targets() -> None:
    """The same as class numbers; through fit and evaluate too."""
    x, t = batch((5, 4), 3)
    source = linear(out="h")
    steps = [nbcnn.Trainer(nbcnn.load(source)).step(x, target) for target in (t, np.eye(3, dtype=np.int64)[t])]
    assert steps[0] == pytest.approx(steps[1], rel=1e-6)
    trainer = nbcnn.Trainer(nbcnn.load(source))
    rows = np.eye(3, dtype=np.uint8)[t]
    assert trainer.fit((x, rows), (x, rows)).epochs[0].loss == pytest.approx(steps[0], rel=1e-6)


def test_no_epochs() -> None:
    trainer = nbcnn.Trainer(nbcnn.load(linear(out="h")))
    with pytest.raises(InputError, match="epochs must be a whole number of at least 1, not 0"):
        trainer.fit(batch((5, 4), 3), epochs=0)
    with pytest.raises(InputError, match=r"epochs must be .*, not 1\.5"):
        trainer.fit(batch((5, 4), 3), epochs=1.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"patience must be .*, not -1"):
        trainer.fit(batch((5, 4), 3), batch((5, 4), 3), patience=-1)
    with pytest.raises(InputError, match="patience needs validation data"):
        trainer.fit(batch((5, 4), 3), patience=1)
