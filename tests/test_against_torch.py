"""Whole training runs against PyTorch: the same weights, the same batches, the same losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from networks import assert_close, small_resnet, stir

import nbcnn
from nbcnn.graph import Graph
from nbcnn.optim import Optimizer
from nbcnn.zoo import graph_of

torch = pytest.importorskip("torch", reason="torch is not installed: training runs are compared with PyTorch's")

from .zoo.torch_networks import LeNet, Residual  # noqa: E402

STEPS = 20


class SmallResNet(torch.nn.Module):
    """networks.small_resnet, with the same names."""

    def __init__(self, width: int = 8, classes: int = 5) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(width)
        self.layer1 = Residual(width, [width, width], [3, 3], 1, 0)
        self.layer2 = Residual(width, [2 * width, 2 * width], [3, 3], 2, 0)
        self.fc = torch.nn.Linear(2 * width, classes)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


NETWORKS: dict[str, tuple[Callable[[], Graph], Callable[[], Any], tuple[int, ...], int]] = {
    "lenet": (lambda: graph_of("lenet"), LeNet, (1, 28, 28), 10),
    "resnet": (lambda: stir(small_resnet()), SmallResNet, (3, 12, 12), 5),
}
OPTIMIZERS: dict[str, tuple[Callable[[], Optimizer], Callable[[Any], Any]]] = {
    "momentum": (
        lambda: nbcnn.SGD(lr=0.02, momentum=0.9, weight_decay=1e-3),
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=1e-3),
    ),
    "nesterov": (
        lambda: nbcnn.SGD(lr=0.02, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    ),
    "adam": (lambda: nbcnn.Adam(lr=1e-3), lambda p: torch.optim.Adam(p, lr=1e-3)),
    "adamw": (lambda: nbcnn.AdamW(lr=1e-3), lambda p: torch.optim.AdamW(p, lr=1e-3)),
}


def batches(shape: tuple[int, ...], classes: int, dtype: Any, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of 6, and the last of every epoch of four is smaller."""
    rng = np.random.default_rng(3)
    for k in range(steps):
        n = 5 if k % 4 == 3 else 6
        yield rng.standard_normal((n, *shape)).astype(dtype), rng.integers(0, classes, n)


def peer_of(graph: Graph, make: Callable[[], Any], dtype: Any) -> Any:
    peer = make().to(dtype).train()
    weights = {name: torch.from_numpy(array.copy()).to(dtype) for name, array in graph.initializers.items()}
    missing, unexpected = peer.load_state_dict(weights, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    return peer


def peer_step(peer: Any, optimizer: Any, x: np.ndarray, t: np.ndarray) -> float:
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(peer(torch.from_numpy(x)), torch.from_numpy(t))
    loss.backward()
    optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize(
    ("network", "optimizer"),
    [("lenet", "momentum"), ("lenet", "adam"), ("lenet", "nesterov"), ("resnet", "momentum"), ("resnet", "adamw")],
)
def test_losses_of_a_run_in_float64(network: str, optimizer: str) -> None:
    make, make_peer, shape, classes = NETWORKS[network]
    mine, theirs = OPTIMIZERS[optimizer]
    graph = make()
    peer = peer_of(graph, make_peer, torch.float64)
    peer_optimizer = theirs(peer.parameters())
    model = nbcnn.Model(graph, "float64")
    trainer = nbcnn.Trainer(model, optimizer=mine())
    losses = [
        (trainer.step(x, t), peer_step(peer, peer_optimizer, x, t))
        for x, t in batches(shape, classes, np.float64, STEPS)
    ]
    got, want = np.transpose(losses)
    assert np.ptp(want) > 0.05, "the run must go somewhere"
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9)
    for name, tensor in peer.named_parameters():
        assert_close(model.parameters[name].value, tensor.detach().numpy(), 1e-8)


@pytest.mark.parametrize("network", NETWORKS)
def test_first_loss_in_float32(network: str) -> None:
    make, make_peer, shape, classes = NETWORKS[network]
    graph = make()
    peer = peer_of(graph, make_peer, torch.float32)
    (x, t), *_ = batches(shape, classes, np.float32, 1)
    want = peer_step(peer, torch.optim.SGD(peer.parameters(), lr=0.1), x, t)
    model = nbcnn.Model(graph)
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.1))
    assert abs(trainer.step(x, t) - want) < 1e-5
    for name, tensor in peer.named_parameters():
        assert_close(model.parameters[name].value, tensor.detach().numpy(), 2e-5)


def test_running_statistics() -> None:
    """The mean as PyTorch has it. The variance too, but for PyTorch's factor N / (N - 1), N the values of a channel."""
    make, make_peer, shape, classes = NETWORKS["resnet"]
    graph = make()
    peer = peer_of(graph, make_peer, torch.float64)
    (x, t), *_ = batches(shape, classes, np.float64, 1)
    peer_step(peer, torch.optim.SGD(peer.parameters(), lr=0.1), x, t)
    model = nbcnn.Model(graph, "float64")
    nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.1)).step(x, t)
    state = {name: tensor.numpy() for name, tensor in peer.state_dict().items()}
    counted = 0
    for name, array in graph.initializers.items():
        if name.endswith("running_mean"):
            assert_close(model.parameters[name].value, state[name], 1e-12)
        elif name.endswith("running_var"):
            n = len(x) * 12 * 12 // (4 if name.startswith("layer2") else 1)
            old = 0.9 * array.astype(np.float64)
            assert_close(model.parameters[name].value, old + (state[name] - old) * (n - 1) / n, 1e-12)
            counted += 1
    assert counted == 6


@pytest.mark.parametrize("loss", ["squared_error", "binary_cross_entropy_with_logits"])
def test_other_losses(loss: str) -> None:
    graph = graph_of("lenet")
    peer = peer_of(graph, LeNet, torch.float64)
    optimizer = torch.optim.SGD(peer.parameters(), lr=0.02)
    theirs = {
        "squared_error": torch.nn.functional.mse_loss,
        "binary_cross_entropy_with_logits": torch.nn.functional.binary_cross_entropy_with_logits,
    }[loss]
    trainer = nbcnn.Trainer(nbcnn.Model(graph, "float64"), loss, nbcnn.SGD(lr=0.02))
    for x, labels in batches((1, 28, 28), 10, np.float64, 3):
        t = np.eye(10)[labels]
        optimizer.zero_grad()
        wanted = theirs(peer(torch.from_numpy(x)), torch.from_numpy(t))
        wanted.backward()
        optimizer.step()
        assert trainer.step(x, t) == pytest.approx(float(wanted.detach()), abs=1e-9)
