"""Each network's graph, run by onnxruntime, against the same network written in PyTorch with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from nbcnn.graph import Graph
from nbcnn.onnx_io import to_proto
from nbcnn.zoo import graph_of

torch = pytest.importorskip("torch", reason="torch is not installed: the networks are compared with PyTorch's")

from .torch_networks import GoogLeNet, LeNet, Mlp, ResNet, alexnet, densenet121, vgg16  # noqa: E402

CASES: dict[str, tuple[str, dict[str, Any], tuple[int, ...], Callable[[], Any]]] = {
    "lenet": ("lenet", {}, (1, 28, 28), LeNet),
    "lenet, 8x8": ("lenet", {"size": 8}, (1, 8, 8), lambda: LeNet(64, pad=2)),
    "mlp": ("mlp", {}, (784,), Mlp),
    "mlp of pictures": ("mlp", {"shape": (1, 28, 28)}, (1, 28, 28), Mlp),
    "resnet18": ("resnet18", {"size": 65, "classes": 11}, (3, 65, 65), lambda: ResNet((2, 2, 2, 2), False, 11)),
    "resnet34": ("resnet34", {"size": 33, "classes": 11}, (3, 33, 33), lambda: ResNet((3, 4, 6, 3), False, 11)),
    "resnet50": ("resnet50", {"size": 48, "classes": 11}, (3, 48, 48), lambda: ResNet((3, 4, 6, 3), True, 11)),
    "alexnet": ("alexnet", {"size": 64, "classes": 11}, (3, 64, 64), lambda: alexnet(11, 256)),
    "vgg16": ("vgg16", {"size": 32, "classes": 11}, (3, 32, 32), lambda: vgg16(11, 512)),
    "googlenet": ("googlenet", {"size": 64, "classes": 11}, (3, 64, 64), lambda: GoogLeNet(11)),
    "densenet121": ("densenet121", {"size": 64, "classes": 11}, (3, 64, 64), lambda: densenet121(11)),
}


def stir(graph: Graph, rng: np.random.Generator) -> None:
    """Biases and batch norms away from zero and one, where a mistake would not show."""
    for name, array in graph.initializers.items():
        if array.ndim == 1:
            low, high = (-0.3, 0.3) if name.endswith(("bias", "mean")) else (0.5, 1.0)
            array[:] = rng.uniform(low, high, array.shape)


@pytest.mark.parametrize("case", CASES)
def test_same_outputs(case: str) -> None:
    name, options, shape, make = CASES[case]
    rng = np.random.default_rng(0)
    graph = graph_of(name, **options)
    stir(graph, rng)
    x = rng.standard_normal((3, *shape), dtype=np.float32)

    peer = make().eval()
    missing, unexpected = peer.load_state_dict(
        {key: torch.from_numpy(array) for key, array in graph.initializers.items()}, strict=False
    )
    assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing), "names as PyTorch has them"
    with torch.no_grad():
        wanted = peer(torch.from_numpy(x)).numpy()

    session = ort.InferenceSession(to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"input": x})
    assert got.shape == wanted.shape and np.ptp(wanted, axis=0).max() > 1e-3, "pictures must be told apart"
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())
