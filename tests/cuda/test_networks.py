"""Whole networks: inference beside onnxruntime, training beside the engine on the processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import assert_close, batch, onnxruntime_run, small_resnet, stir, tiny

import nbcnn
from nbcnn.devices import find_device
from nbcnn.model import Model
from nbcnn.onnx_io import to_proto
from nbcnn.optim import SGD, Adam

OPTIMIZERS = {"momentum": lambda: SGD(0.1, 0.9), "adam": lambda: Adam(0.01)}


def test_inference() -> None:
    graph = stir(tiny())
    x, _ = batch((2, 2, 6, 6), 3)
    got = Model(graph, device="cuda")(x)
    assert_close(got, onnxruntime_run(to_proto(graph), {"input": x})[0], 1e-5)


def test_a_residual_network() -> None:
    graph = stir(small_resnet(width=4, size=6))
    x, _ = batch((1, 3, 6, 6), 5)
    got = Model(graph, device="cuda")(x)
    assert_close(got, onnxruntime_run(to_proto(graph), {"input": x})[0], 1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training(optimizer: str) -> None:
    """Losses and weights of a few steps."""
    x, t = batch((4, 2, 6, 6), 3)
    found: dict[str, Any] = {}
    for device in (find_device("cpu"), find_device("cuda", precision="fp32")):
        model = Model(stir(tiny()), device=device)
        trainer = nbcnn.Trainer(model, optimizer=OPTIMIZERS[optimizer]())
        losses = [trainer.step(x, t) for _ in range(3)]
        found[device.name] = losses, {name: p.value for name, p in model.parameters.items()}
    np.testing.assert_allclose(found["cuda"][0], found["cpu"][0], rtol=1e-4)
    for name, value in found["cpu"][1].items():
        np.testing.assert_allclose(found["cuda"][1][name], value, rtol=1e-3, atol=1e-5, err_msg=name)
