"""Trainer.fit: epochs, validation, patience, progress, Ctrl-C, and a loss that is no number."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from networks import batch, small_resnet, stir

import nbcnn
from nbcnn.errors import DataError, TrainingError
from nbcnn.trainer import Epoch, Progress
from nbcnn.zoo import graph_of

X, T = batch((30, 1, 8, 8), 10)


def lenet() -> nbcnn.Model:
    return nbcnn.Model(graph_of("lenet", size=8))


def values(model: nbcnn.Model) -> dict[str, np.ndarray]:
    return {name: p.value for name, p in model.parameters.items()}


def test_epochs_in_the_loaders_order() -> None:
    """fit is the same as steps on the loader's batches, of 12, 12 and 6, done by hand."""
    by_hand, fitted = lenet(), lenet()
    trainer = nbcnn.Trainer(by_hand, optimizer=nbcnn.SGD(lr=0.1, momentum=0.9))
    means = []
    loader = nbcnn.data.Loader(nbcnn.data.ArrayDataset(X, T), 12, shuffle=True, seed=5)
    for _ in range(2):
        losses = [(trainer.step(x, t), len(x)) for x, t in loader]
        assert [n for _, n in losses] == [12, 12, 6]
        means.append(sum(loss * n for loss, n in losses) / 30)
    trainer = nbcnn.Trainer(fitted, optimizer=nbcnn.SGD(lr=0.1, momentum=0.9))
    history = trainer.fit((X, T), epochs=2, batch_size=12, seed=5)
    assert [e.loss for e in history.epochs] == means and [e.number for e in history.epochs] == [1, 2]
    assert all(e.accuracy is None for e in history.epochs) and not history.interrupted
    for name, array in values(by_hand).items():
        np.testing.assert_array_equal(fitted.parameters[name].value, array)


def test_validation_accuracy() -> None:
    model = lenet()
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.05, momentum=0.9))
    history = trainer.fit((X, T), (X[:7], T[:7]), epochs=2, batch_size=10)
    want = float(np.mean(model(X[:7]).argmax(1) == T[:7]))
    assert history.epochs[-1].accuracy == want == trainer.evaluate((X[:7], T[:7]))


@pytest.mark.parametrize(
    ("patience", "accuracies", "epochs"),
    [(2, [0.5, 0.5, 0.4, 0.9], 3), (3, [0.1, 0.3, 0.3, 0.2, 0.4, 0.4, 0.4, 0.4, 0.9], 8), (None, [0.5, 0.4, 0.3], 3)],
)
def test_patience(patience: int | None, accuracies: list[float], epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends after `patience` epochs without a new best."""
    trainer = nbcnn.Trainer(lenet(), optimizer=nbcnn.SGD(lr=0.01))
    given = iter(accuracies)
    monkeypatch.setattr(trainer, "evaluate", lambda *_: next(given))
    history = trainer.fit((X, T), (X, T), epochs=len(accuracies), batch_size=15, patience=patience)
    assert [e.accuracy for e in history.epochs] == accuracies[:epochs] and not history.interrupted


def test_progress_and_epochs_are_reported() -> None:
    steps: list[Progress] = []
    epochs: list[Epoch] = []
    trainer = nbcnn.Trainer(lenet(), optimizer=nbcnn.SGD(lr=0.05))
    history = trainer.fit((X, T), epochs=2, batch_size=12, progress=steps.append, after_epoch=epochs.append)
    assert [(p.epoch, p.epochs, p.step, p.steps) for p in steps] == [(e, 2, s, 3) for e in (1, 2) for s in (1, 2, 3)]
    assert epochs == history.epochs
    assert np.mean([p.loss * n for p, n in zip(steps[:3], (12, 12, 6), strict=True)]) * 3 / 30 == pytest.approx(
        epochs[0].loss
    )
    assert all(p.left >= 0 and p.rate >= 0 for p in steps) and steps[-1].left == 0 and steps[-1].rate > 0


def test_labels_out_of_range() -> None:
    model = lenet()
    before = values(model)
    with pytest.raises(DataError, match="label 10"):
        nbcnn.Trainer(model).fit((X, np.full(30, 10)), epochs=1)
    for name, array in before.items():
        np.testing.assert_array_equal(model.parameters[name].value, array)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_that_diverges_goes_back_to_the_end_of_the_last_epoch(epoch: int) -> None:
    """Weights and running statistics, also where the very first epoch fails, after some good steps."""
    model = nbcnn.Model(stir(small_resnet()))
    x, t = batch((12, 3, 12, 12), 5)
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.05, momentum=0.9))
    kept = values(model)

    def keep(_: Epoch) -> None:
        kept.update(values(model))

    def poison(p: Progress) -> None:
        if (p.epoch, p.step) == (epoch, 1):
            x[:] = np.nan  # the loader's next batches are cut from this array

    when = "as they were before training" if epoch == 1 else "those of the end of epoch 1"
    with pytest.raises(TrainingError, match=rf"loss is nan at step .*the weights are {when}$") as error:
        trainer.fit((x, t), epochs=3, batch_size=2, progress=poison, after_epoch=keep)
    assert "\n" not in str(error.value)
    for name, array in kept.items():
        np.testing.assert_array_equal(model.parameters[name].value, array, name)
    good, labels = batch((2, 3, 12, 12), 5, seed=9)
    assert np.isfinite([trainer.step(good, labels) for _ in range(3)]).all()


def test_fit_outside_the_main_thread() -> None:
    """Where no signal handler can be set."""
    found: list[object] = []

    def work() -> None:
        try:
            found.append(nbcnn.Trainer(lenet()).fit((X, T), batch_size=15))
        except Exception as error:  # a thread's failure must reach the test
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not isinstance(found[0], Exception), found


SCRIPT = """
import os, signal, sys
import numpy as np, nbcnn
from nbcnn.zoo import graph_of
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in the background without it
rng = np.random.default_rng(0)
x, t = rng.standard_normal((24, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 24)
model = nbcnn.Model(graph_of("lenet", size=8))
def progress(p):
    if (p.epoch, p.step) == (2, 1):
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))
history = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.1)).fit((x, t), epochs=5, batch_size=8, progress=progress)
model.save(sys.argv[1])
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
print(history.interrupted, len(history.epochs))
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT that a process can send to itself here")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_ctrl_c_ends_the_run_after_the_present_step(name: str, tmp_path: Path) -> None:
    path = tmp_path / "interrupted.onnx"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, path, name], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "1"]
    assert nbcnn.load(path)(X).shape == (30, 10)


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    def twice(p: Progress) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            nbcnn.Trainer(lenet()).fit((X, T), batch_size=15, progress=twice)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("epochs", [1, 3])
def test_an_epoch_that_ends_in_finite_but_useless_weights_is_undone(epochs: int) -> None:
    """One step an epoch: the weights that it leaves are finite, the loss that they give is not."""
    model = nbcnn.zoo.lenet(size=8)
    before = {name: p.value for name, p in model.parameters.items()}
    with pytest.raises(TrainingError, match=r"the loss is \w+ after step 1 .* as they were before training"):
        nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=1e30)).fit(batch((5, 1, 8, 8), 10), epochs=epochs, batch_size=5)
    for name, array in before.items():
        np.testing.assert_array_equal(model.parameters[name].value, array, name)
