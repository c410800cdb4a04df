"""Arrays that lie on the GPU already, of whatever library, are taken from there without a copy over the bus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nbcnn.optim import SGD
from nbcnn.trainer import Trainer

from .conftest import SIMULATED
from .small import batches, model

SIZE = 1 if SIMULATED else 8


def by_numba(x: np.ndarray) -> Any:
    from nbcnn.kernels.cuda import runtime

    return runtime.upload(x)


def by_torch(x: np.ndarray) -> Any:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its arrays are not fed")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch has no GPU here: its arrays are not fed")
    return torch.from_numpy(x).cuda()


def by_cupy(x: np.ndarray) -> Any:
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed: its arrays are not fed")
    return cupy.asarray(x)


class Dlpack:
    """What another library gives that only knows DLPack."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


LIBRARIES = {"numba": by_numba, "torch": by_torch, "cupy": by_cupy, "dlpack": lambda x: Dlpack(by_torch(x))}


@pytest.mark.parametrize("library", LIBRARIES)
def test_runs(library: str) -> None:
    fed, put = model("lenet"), LIBRARIES[library]
    for x, _ in batches(fed, 4, SIZE):
        wanted = fed.run(None, {"input": x})[0]
        np.testing.assert_array_equal(fed.run(None, {"input": put(x)})[0], wanted)


@pytest.mark.parametrize("library", ["numba", "torch"])
def test_training_steps(library: str) -> None:
    def losses(put: Callable[[np.ndarray], Any]) -> list[float]:
        trained = model("lenet")
        trainer = Trainer(trained, optimizer=SGD(lr=0.01))
        return [trainer.step(put(x), t) for x, t in batches(trained, 2 if SIMULATED else 6, SIZE)]

    assert losses(LIBRARIES[library]) == losses(lambda x: x)
