"""Activations kept in 16 bits: how kernels round, and whole networks beside onnxruntime and the processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from halves import give, take
from networks import batch, onnxruntime_run, small_resnet, stir, tiny

import nbcnn
from nbcnn.devices import HALVES, find_device
from nbcnn.graph import Graph
from nbcnn.kernels.cuda import runtime
from nbcnn.kernels.cuda._cuda import cuda, kernel, spread
from nbcnn.kernels.cuda.halves import KINDS
from nbcnn.kernels.cuda.memory import WIDTH, read, write
from nbcnn.model import Model
from nbcnn.onnx_io import to_proto
from nbcnn.optim import SGD
from nbcnn.zoo import GraphBuilder

# --- rounding


@kernel
def copy_ones(x, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = x[i]


@kernel
def copy_fours(x, y):
    v = cuda.local.array(WIDTH, y.dtype)
    for i in range(WIDTH * cuda.grid(1), y.size, WIDTH * cuda.gridsize(1)):
        read(x, i, y.size - i, v)
        write(y, i, y.size - i, v)


COPIES = {"ones": copy_ones, "fours": copy_fours}
RANGES = {
    "float16": (11, 2.0**-24, 65504.0, 65520.0),
    "bfloat16": (8, 2.0**-133, 2.0**128 - 2.0**120, 2.0**128 - 2.0**119),
}
"""Bits of a number, the smallest above zero, the largest, and the least that becomes infinity."""


def numbers(kind: str) -> np.ndarray:
    """Ties, both ends of the range and what lies beside them, and float32 of random bits."""
    bits, least, most, beyond = RANGES[kind]
    step = 2.0 ** (1 - bits)
    ties = [1 + k * step / 2 for k in range(6)] + [1 + step / 2 + 2.0**-23, 1 + step / 2 - 2.0**-23]
    small = [k * least / 2 for k in range(8)] + [2.0**-14, 2.0**-126, 1e-40]
    large = [most, beyond, np.nextafter(np.float32(beyond), np.float32(0)), np.inf, np.nan]
    special = np.array([*ties, *small, *large], np.float32)
    random = np.random.default_rng(0).integers(0, 1 << 32, 401, np.uint32).view(np.float32)
    return np.concatenate([special, -special, random])


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_rounded_to_nearest(kind: str, copy: str) -> None:
    """Halves to even, to infinity above the largest, gradually to zero, as NumPy and ml_dtypes do."""
    x = numbers(kind)
    y = give(np.zeros(x.size, np.float32), kind)
    spread(COPIES[copy], x.size, give(x, None), y)
    with np.errstate(over="ignore"):
        wanted = x.astype(KINDS[kind]).astype(np.float32)
    assert np.isinf(wanted).sum() >= 4
    np.testing.assert_array_equal(take(y), wanted)
    np.testing.assert_array_equal(np.signbit(take(y)[~np.isnan(x)]), np.signbit(x[~np.isnan(x)]))


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_is_exact(kind: str, copy: str) -> None:
    bits = np.arange(0, 1 << 16, 61).astype(np.uint16)
    x, y = give(np.zeros(bits.size, np.float32), kind), give(np.zeros(bits.size, np.float32), None)
    runtime.overwrite(x.bits, bits)
    spread(COPIES[copy], bits.size, x, y)
    np.testing.assert_array_equal(take(y), bits.view(KINDS[kind]).astype(np.float32))


# --- networks


def depthwise() -> Graph:
    """input (N, 3, 4, 4) -> output (N, 4)"""
    g = GraphBuilder("depthwise", (3, 4, 4), seed=0)
    x = g.relu(g.batch_norm(g.conv(g.input, "stem", 4, kernel=1, bias=False), "bn"))
    x = g.conv(x, "depthwise", 4, kernel=3, stride=2, pad=1)
    node = g.graph.nodes[-1]
    node.attrs["group"] = 4
    g.graph.initializers[node.inputs[1]] = g.graph.initializers[node.inputs[1]][:, :1] * np.float32(2)
    x = g.relu(g.conv(g.relu(x), "pointwise", 6, kernel=1))
    return g.finish(g.gemm(g.flatten(g.global_average_pool(x)), "fc", 4))


def branches() -> Graph:
    """input (N, 2, 4, 4) -> output (N, 3)"""
    g = GraphBuilder("branches", (2, 4, 4), seed=0)
    x = g.relu(g.conv(g.input, "stem", 4, kernel=1))
    parts = [g.max_pool(x, 3, 1, 1), g.conv(x, "one", 2, kernel=1), g.conv(x, "three", 3, kernel=3, pad=1)]
    x = g.relu(g.average_pool(g.concat(parts), 2))
    return g.finish(g.gemm(g.flatten(x), "fc", 3))


Build = Callable[[], Graph]
NETWORKS: dict[str, Build] = {
    "tiny": tiny,
    "small_resnet": lambda: small_resnet(width=4, size=6),
    "depthwise": depthwise,
    "branches": branches,
}
TOLERANCES = {"fp16": 5e-3, "bf16": 5e-2}
"""Of the largest score, of the loss, and of the norm of what training has changed: some roundings to 11 and 8 bits."""


def inputs(graph: Graph, size: int) -> tuple[np.ndarray, np.ndarray]:
    return batch((size, *(graph.inputs[0].shape or ())[1:]), 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("name", NETWORKS)
def test_inference(name: str, precision: str) -> None:
    graph = stir(NETWORKS[name]())
    x, _ = inputs(graph, 2)
    model = Model(graph, device=find_device("cuda", precision=precision))
    plan = model.plan({"input": x})
    assert any("halves" in node.attrs for node in plan.nodes), "nothing is multiplied in 16 bits"
    (wanted,) = onnxruntime_run(to_proto(graph), {"input": x})
    np.testing.assert_allclose(model(x), wanted, rtol=0, atol=TOLERANCES[precision] * np.abs(wanted).max())


def trained(graph: Graph, device: Any, steps: int) -> tuple[list[float], dict[str, np.ndarray]]:
    """Losses, and what became of each weight."""
    model = Model(graph, device=device)
    trainer = nbcnn.Trainer(model, optimizer=SGD(0.05, 0.9))
    if trainer.scale is not None:
        trainer.scale.factor = 1024.0
    before = {name: p.value.copy() for name, p in model.parameters.items()}
    losses = [trainer.step(*inputs(graph, 2)) for _ in range(steps)]
    return losses, {name: p.value - before[name] for name, p in model.parameters.items()}


@pytest.mark.parametrize(("name", "precision"), [("depthwise", "fp16"), ("branches", "bf16")])
def test_training(name: str, precision: str) -> None:
    """Beside the processor."""
    losses, changes = trained(stir(NETWORKS[name]()), find_device("cuda", precision=precision), 3)
    wanted, moves = trained(stir(NETWORKS[name]()), find_device("cpu"), 3)
    np.testing.assert_allclose(losses, wanted, rtol=TOLERANCES[precision])
    for key, move in moves.items():
        difference = np.linalg.norm(changes[key] - move)
        assert difference <= TOLERANCES[precision] * np.linalg.norm(move), key


def test_an_overflow_changes_nothing() -> None:
    graph = stir(depthwise())
    x, t = inputs(graph, 2)
    model = Model(graph, device=find_device("cuda", precision="fp16"))
    trainer = nbcnn.Trainer(model, optimizer=SGD(0.05, 0.9))
    assert trainer.scale is not None
    trainer.scale.factor = 2.0**40
    before = {name: p.value.copy() for name, p in model.parameters.items()}
    trainer.step(x, t)
    assert (trainer.scale.factor, trainer.scale.skipped, trainer.steps_done) == (2.0**39, 1, 0)
    for name, value in before.items():
        np.testing.assert_array_equal(model.parameters[name].value, value, err_msg=name)
    trainer.scale.factor = 2.0**10
    trainer.step(x, t)
    assert (trainer.scale.skipped, trainer.steps_done) == (1, 1)
    assert all((model.parameters[name].value != value).any() for name, value in before.items())
