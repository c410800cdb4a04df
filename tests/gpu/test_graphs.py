"""CUDA graphs: a replay gives what launches one by one give, to the last bit, and goes with its plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nbcnn.optim import SGD, Adam
from nbcnn.trainer import Trainer

from .conftest import SIMULATED
from .small import TRAINED, batches, model

STEPS, SIZE = (3, 2) if SIMULATED else (6, 8)


def launched_one_by_one(patch: pytest.MonkeyPatch) -> None:
    from nbcnn.kernels.cuda import runtime

    patch.setattr(runtime, "capture", lambda work: None)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("name", TRAINED)
def test_inference(name: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replayed, given = model(name, precision=precision), batches(model(name), 4, SIZE)
    found = [replayed.run(None, {"input": x})[0] for x, _ in given]
    plan = replayed.plan({"input": given[0][0]})
    assert SIMULATED or (all(plan.graphs.values()) and plan.graphs), "no graph was captured"
    launched_one_by_one(monkeypatch)
    eager = model(name, precision=precision)
    for (x, _), y in zip(given, found, strict=True):
        np.testing.assert_array_equal(eager.run(None, {"input": x})[0], y)


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
@pytest.mark.parametrize("optimizer", [SGD(lr=0.01, momentum=0.9), Adam(lr=1e-3)], ids=["sgd", "adam"])
def test_training(optimizer: Any, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def losses() -> list[float]:
        trained = model("lenet", precision=precision)
        trainer = Trainer(trained, optimizer=optimizer, schedule=lambda step: 1 / step)
        given = batches(trained, 2, SIZE)
        return [trainer.step(*given[step % 2]) for step in range(STEPS)]

    found = losses()
    launched_one_by_one(monkeypatch)
    assert losses() == found


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # of the simulator, which computes with NumPy
def test_an_overflow_after_graphs_were_captured() -> None:
    """That step changes nothing, and the next one, with a smaller factor, is made as if there had been none."""

    def trained(overflow: bool) -> tuple[list[float], dict[str, np.ndarray]]:
        learning = model("small_resnet", precision="fp16")
        trainer = Trainer(learning, optimizer=Adam(lr=1e-3))
        assert trainer.scale is not None
        trainer.scale.factor = 2.0**10
        ((x, t),) = batches(learning, 1, SIZE)
        losses = [trainer.step(x, t) for _ in range(STEPS)]
        if overflow:
            before = {name: p.value.copy() for name, p in learning.parameters.items()}
            trainer.scale.factor = 2.0**40
            trainer.step(x, t)
            assert (trainer.scale.skipped, trainer.steps_done) == (1, STEPS)
            for name, value in before.items():
                np.testing.assert_array_equal(learning.parameters[name].value, value, err_msg=name)
            trainer.scale.factor = 2.0**10
        losses.append(trainer.step(x, t))
        return losses, {name: p.value for name, p in learning.parameters.items()}

    (losses, weights), (expected, wanted) = trained(True), trained(False)
    assert losses == expected
    for name, value in wanted.items():
        np.testing.assert_array_equal(weights[name], value, err_msg=name)


def test_weights_that_change_between_replays() -> None:
    changing = model("lenet", precision="fp32")
    ((x, _),) = batches(changing, 1, SIZE)
    first = [changing.run(None, {"input": x})[0] for _ in range(3)][-1]
    changing.parameters["fc3.bias"].value = changing.parameters["fc3.bias"].value + np.float32(1)
    np.testing.assert_allclose(changing.run(None, {"input": x})[0], first + 1, rtol=1e-5, atol=1e-5)


def test_shapes_in_turn() -> None:
    """Plans share their memory, and each graph was captured with addresses of its own."""
    turning, fresh = model("lenet"), model("lenet")
    sizes = (1, 2, 1, 3, 1, 2, 1, 3, 2, 3)
    for size in sizes:
        ((x, _),) = batches(turning, 1, size)
        found = turning.run(None, {"input": x})[0]
        if size == 3:
            np.testing.assert_array_equal(found, fresh.run(None, {"input": x})[0])
