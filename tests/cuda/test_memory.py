"""What is said where the GPU's memory is full."""

from __future__ import annotations

from threading import Thread
from typing import Any

import numpy as np
import pytest

from nbcnn.errors import DeviceError, ModelError
from nbcnn.graph import Graph, Node, Value
from nbcnn.kernels.cuda import _cuda, runtime
from nbcnn.model import Model


class FullError(RuntimeError):
    code = runtime.NO_MEMORY


def full(*_: Any) -> Any:
    raise FullError


@pytest.fixture
def model() -> Model:
    graph = Graph(opset={"": 17})
    graph.inputs = [Value("x", np.dtype(np.float32), ("N", 64, 64))]
    graph.outputs = [Value("y", np.dtype(np.float32), None)]
    graph.nodes = [Node("Transpose", ["x"], ["y"], {"perm": (0, 2, 1)}, name="turn")]
    return Model(graph, device="cuda")


def test_activations(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 pictures of 16 KiB, in and out: 2 MiB; half of that is there."""
    allocate = runtime.allocate
    monkeypatch.setattr(runtime, "allocate", lambda size: full() if size else allocate(size))
    monkeypatch.setattr(runtime, "free_bytes", lambda: 1 << 20)
    with pytest.raises(ModelError, match=r"needs 0.00195 GiB of the GPU's memory .*: a batch of 32 would fit"):
        model(np.zeros((64, 64, 64), np.float32))


def test_more_than_kernels_count(model: Model) -> None:
    x = np.broadcast_to(np.float32(0), (1 << 20, 64, 64))
    with pytest.raises(ModelError, match=r"turn.*4,294,967,296 elements is too large for device 'cuda'"):
        model.plan({"x": x})


def test_weights(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "upload", full)
    monkeypatch.setattr(runtime, "free_bytes", lambda: 1 << 29)
    with pytest.raises(DeviceError, match=r"the GPU's memory, of which 0.5 GiB are free, has no room for 1 GiB more"):
        model.device.put(np.broadcast_to(np.float32(0), (1 << 28,)))


def test_what_other_threads_start_while_one_captures() -> None:
    """It goes into the common stream, not into the graph."""
    if _cuda.TARGET == "ptx":
        pytest.skip("there are no streams where nothing runs")
    common, found = _cuda.stream(), []
    with _cuda.launching_apart() as apart:
        assert _cuda.stream() is apart is not common
        other = Thread(target=lambda: found.append(_cuda.stream()))
        other.start()
        other.join()
    assert found == [common] and _cuda.stream() is common
