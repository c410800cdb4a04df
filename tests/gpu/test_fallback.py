"""Kernels that the GPU does not have run on the processor where that is allowed, and are an error elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nbcnn.errors import UnsupportedError
from nbcnn.gpu import Gpu
from nbcnn.optim import SGD
from nbcnn.trainer import Trainer

from .small import batches, model


@pytest.fixture
def no_pooling(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were no CUDA kernels of this family."""
    find = Gpu._find

    def without(self: Gpu, name: str) -> Callable[..., Any] | None:
        return None if name.startswith(("pool", "max_pool")) else find(self, name)

    monkeypatch.setattr(Gpu, "_find", without)


@pytest.mark.usefixtures("no_pooling")
def test_refused_by_name() -> None:
    refused = model("lenet")
    ((x, _),) = batches(refused, 1, 2)
    with pytest.raises(UnsupportedError, match=r"'cuda' has no kernels for .*MaxPool.*allow_fallback=True") as caught:
        refused.run(None, {"input": x})
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_pooling")
def test_allowed() -> None:
    here, mixed = model("lenet", "cpu"), model("lenet", precision="fp32", allow_fallback=True)
    for x, _ in batches(here, 4, 2):
        wanted = here.run(None, {"input": x})[0]
        found = mixed.run(None, {"input": x})[0]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.usefixtures("no_pooling")
def test_training_with_steps_on_the_processor() -> None:
    def losses(device: str) -> list[float]:
        trained = model("lenet", device, precision="fp32", allow_fallback=True)
        trainer = Trainer(trained, optimizer=SGD(lr=0.01))
        return [trainer.step(x, t) for x, t in batches(trained, 4, 3)]

    np.testing.assert_allclose(losses("cuda"), losses("cpu"), rtol=1e-3)
