"""Loss scaling, and training with activations in 16 bits, whose rounding the processor emulates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from networks import assert_close, batch, onnxruntime_run, small_resnet, stir

import nbcnn
from bench.kept_in_halves import emulated
from nbcnn.data import Loader
from nbcnn.errors import TrainingError
from nbcnn.model import Model
from nbcnn.onnx_io import to_proto
from nbcnn.optim import SGD, Adam, Cosine
from nbcnn.report.step import RandomStep
from nbcnn.scaling import LossScale

TOLERANCES = {"fp16": 3e-3, "bf16": 3e-2}
"""Of the largest score: some roundings to 11 and to 8 bits."""


def test_the_factor_follows_overflows() -> None:
    scale = LossScale(factor=8.0, patience=3)
    assert not scale.accepts(overflowed=True)
    assert (scale.factor, scale.skipped) == (4.0, 1)
    assert all(scale.accepts(overflowed=False) for _ in range(3))
    assert (scale.factor, scale.skipped, scale.good) == (8.0, 1, 0)


def test_overflows_that_no_factor_helps_against() -> None:
    scale = LossScale()
    with pytest.raises(TrainingError, match="not finite, however they are scaled"):
        for _ in range(100):
            scale.accepts(overflowed=True)


@pytest.mark.parametrize("precision", TOLERANCES)
def test_inference(precision: str) -> None:
    graph = stir(small_resnet())
    x, _ = batch((3, 3, 12, 12), 5)
    with emulated(precision) as device:
        model = Model(graph, device=device)
        found, again = model(x), model(x)
        kept = [v for v in model.plan({"input": x}).graph.values.values() if v.kept is not None]
    assert kept
    np.testing.assert_array_equal(found, again)
    assert_close(found, onnxruntime_run(to_proto(graph), {"input": x})[0], TOLERANCES[precision])


@pytest.mark.parametrize("precision", TOLERANCES)
def test_training_reaches_what_float32_does(precision: str, tmp_path: Path) -> None:
    """The embedded digits; what was trained is saved in float32, and onnxruntime computes the same from it."""
    train, held = nbcnn.data.digits()
    accuracy = {}
    with emulated(precision) as device:
        for name, where in (("fp32", nbcnn.devices.HOST), (precision, device)):
            model = Model(nbcnn.zoo.graph_of("lenet", size=8, seed=0), device=where)
            trainer = nbcnn.Trainer(model, optimizer=Adam(3e-3), schedule=Cosine(10 * -(-len(train) // 50)))
            history = trainer.fit(train, held, epochs=10, batch_size=50, seed=1)
            accuracy[name] = history.epochs[-1].accuracy
    assert accuracy["fp32"] > 0.9
    assert accuracy[precision] > accuracy["fp32"] - 0.02
    assert all(p.data.dtype == np.float32 for p in model.parameters.values())
    model.save(tmp_path / "tuned.onnx")
    x, _ = next(iter(Loader(held, 4, shuffle=False)))
    (wanted,) = onnxruntime_run((tmp_path / "tuned.onnx").read_bytes(), {"input": x})
    assert_close(nbcnn.load(tmp_path / "tuned.onnx")(x), wanted, 1e-5)


def test_an_overflow_changes_nothing() -> None:
    x, t = batch((4, 3, 12, 12), 5)
    with emulated("fp16") as device:
        model = Model(stir(small_resnet()), device=device)
        trainer = nbcnn.Trainer(model, optimizer=SGD(0.01, 0.9))
        assert trainer.scale is not None
        trainer.scale.factor = 2.0**40
        before = {name: p.value.copy() for name, p in model.parameters.items()}
        trainer.step(x, t)
        assert (trainer.scale.factor, trainer.scale.skipped, trainer.steps_done) == (2.0**39, 1, 0)
        for name, value in before.items():
            np.testing.assert_array_equal(model.parameters[name].value, value, err_msg=name)
        while not trainer.steps_done:
            trainer.step(x, t)
        changed = [name for name, value in before.items() if (model.parameters[name].value != value).any()]
    assert len(changed) == len(before)


def test_a_loss_that_is_not_finite_leaves_no_overflow_behind() -> None:
    x, t = batch((4, 3, 12, 12), 5)
    with emulated("fp16") as device:
        trainer = nbcnn.Trainer(Model(stir(small_resnet()), device=device))
        assert trainer.scale is not None
        with pytest.raises(TrainingError):
            trainer.step(np.full_like(x, np.nan), t)
        trainer.step(x, t)
    assert (trainer.scale.skipped, trainer.steps_done) == (0, 1)


def test_small_gradients_need_the_factor() -> None:
    """Gradients below the smallest number of float16 vanish without it."""
    x, t = batch((8, 3, 12, 12), 5)
    moved = {}
    for factor in (1.0, 2.0**16):
        with emulated("fp16") as device:
            graph = stir(small_resnet())
            graph.initializers["fc.weight"] = graph.initializers["fc.weight"] * np.float32(1e-6)
            model = Model(graph, device=device)
            trainer = nbcnn.Trainer(model, optimizer=SGD(1.0))
            assert trainer.scale is not None
            trainer.scale.factor = factor
            before = model.parameters["conv1.weight"].value.copy()
            trainer.step(x, t)
            moved[factor] = np.abs(model.parameters["conv1.weight"].value - before).max()
    assert moved[1.0] < 0.5 * moved[2.0**16]
    assert moved[2.0**16] > 0


def test_reports_count_no_step_that_was_skipped() -> None:
    """A report's first call finds a factor that fits, and keeps it."""
    x, _ = batch((2, 3, 12, 12), 5)
    with emulated("fp16") as device:
        step = RandomStep(Model(stir(small_resnet()), device=device), {"input": x})
        scale = step.trainer.scale
        assert scale is not None
        scale.factor = 2.0**40
        step()
        skipped, factor = scale.skipped, scale.factor
        assert skipped > 0 and step.trainer.steps_done == 1
        step()
    assert (scale.skipped, scale.factor, step.trainer.steps_done) == (skipped, factor, 2)


def test_float32_has_none() -> None:
    assert nbcnn.Trainer(Model(small_resnet())).scale is None
    with emulated("bf16") as device:
        assert nbcnn.Trainer(Model(small_resnet(), device=device)).scale is None
