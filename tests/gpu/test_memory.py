"""The GPU's memory: nothing is lost over many steps and many models, and too little of it is a clear error."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from nbcnn.errors import ModelError
from nbcnn.optim import Adam
from nbcnn.trainer import Trainer

from .small import batches, model

pytestmark = pytest.mark.usefixtures("real_gpu")

SLACK = 4 << 20
"""Bytes; the driver takes memory in blocks of two megabytes."""


def free_bytes() -> int:
    from nbcnn.kernels.cuda import runtime
    from nbcnn.kernels.cuda._cuda import cuda

    gc.collect()
    runtime.synchronize()
    cuda.current_context().deallocations.clear()
    found = runtime.free_bytes()
    assert found is not None
    return found


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_a_thousand_training_steps(precision: str) -> None:
    trained = model("small_resnet", precision=precision)
    trainer = Trainer(trained, optimizer=Adam())
    given = batches(trained, 4, 16)
    for step in range(10):
        trainer.step(*given[step % 4])
    before = free_bytes()
    for step in range(1000):
        trainer.step(*given[step % 4])
    assert before - free_bytes() <= SLACK


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_a_thousand_runs(precision: str) -> None:
    running = model("mobile", precision=precision)
    given = [x for size in (1, 2, 5) for x, _ in batches(running, 1, size)]
    for number in range(12):
        running.run(None, {"input": given[number % 3]})
    before = free_bytes()
    for number in range(1000):
        running.run(None, {"input": given[number % 3]})
    assert before - free_bytes() <= SLACK


def test_models_that_come_and_go() -> None:
    def come_and_go() -> None:
        passing = model("lenet")
        trainer = Trainer(passing, optimizer=Adam())
        for x, t in batches(passing, 4, 64):
            trainer.step(x, t)
            passing.run(None, {"input": x})

    for _ in range(3):
        come_and_go()
    before = free_bytes()
    for _ in range(20):
        come_and_go()
    assert before - free_bytes() <= SLACK


def test_16_bits_take_less_room() -> None:
    """But not half of it: the network's input and scratch memory stay float32."""
    needed = {}
    for precision in ("tf32", "fp16"):
        given = model("resnet18", precision=precision)
        ((x, _),) = batches(given, 1, 32)
        needed[precision] = given.plan({"input": x}).arena_bytes
    assert needed["fp16"] < 0.8 * needed["tf32"]


def test_too_large_a_batch() -> None:
    """The error says how much is needed and what would fit; what fits still runs afterwards."""
    large = model("lenet")
    ((x, _),) = batches(large, 1, 2)
    wanted = large.run(None, {"input": x})[0]
    batch = free_bytes() * 2 // (6 * 24 * 24 * 4)  # the first layer's result alone
    with pytest.raises(ModelError) as caught:
        large.plan({"input": np.broadcast_to(x[:1], (batch, *x.shape[1:]))})
    message = str(caught.value)
    assert "\n" not in message and "GiB of the GPU's memory" in message and "would fit" in message
    np.testing.assert_array_equal(large.run(None, {"input": x})[0], wanted)
