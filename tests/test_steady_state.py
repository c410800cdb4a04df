"""What a step takes once a plan is warm: no memory, no conversions, no packing; the batch in and the outputs out."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from networks import batch, proto
from numba.core.runtime import _nrt_python as nrt
from numba.core.runtime import rtsys
from onnx import helper

import nbcnn
from nbcnn import executor, memory
from nbcnn.plan import Plan
from nbcnn.zoo import graph_of

STEPS = 4
SMALL = 16 * 1024
"""Bytes that Python may use on the way for numbers, tuples and views: no array of these networks is so small."""

NETWORKS = {"lenet": ((1, 28, 28), 64), "resnet18": ((3, 64, 64), 4), "separable": ((3, 64, 64), 4)}


def separable() -> onnx.ModelProto:
    """A convolution, a depthwise one, batch norm, and the mean of each channel."""
    rng = np.random.default_rng(0)
    arrays = {"conv1.w": (32, 3, 3, 3), "depthwise.w": (32, 1, 3, 3), "fc.w": (10, 32), "fc.b": (10,)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) / 5 for name, shape in arrays.items()}
    weights |= {name: np.full(32, value, np.float32) for name, value in {"s": 1, "b": 0, "m": 0, "v": 2}.items()}
    nodes = [
        helper.make_node("Conv", ["input", "conv1.w"], ["h1"], "conv1", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Conv", ["h1", "depthwise.w"], ["h2"], "depthwise", pads=[1] * 4, group=32),
        helper.make_node("BatchNormalization", ["h2", "s", "b", "m", "v"], ["h3"], "norm"),
        helper.make_node("Relu", ["h3"], ["h4"], "relu"),
        helper.make_node("GlobalAveragePool", ["h4"], ["h5"], "mean"),
        helper.make_node("Flatten", ["h5"], ["h6"], "flat"),
        helper.make_node("Gemm", ["h6", "fc.w", "fc.b"], ["output"], "fc", transB=1),
    ]
    return proto(nodes, {"input": ["N", 3, 64, 64]}, {"output": ["N", 10]}, weights)


def model_of(name: str) -> nbcnn.Model:
    if name == "separable":
        return nbcnn.load(separable())
    return nbcnn.Model(graph_of(name, classes=10, **({"size": 64} if name == "resnet18" else {})))


def data_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    shape, n = NETWORKS[name]
    return batch((n, *shape), 10)


@pytest.fixture
def no_pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Called, it makes every further array of pages of its own (which tracemalloc does not see) an error."""

    def refuse(size: int, huge: bool) -> Any:
        raise AssertionError(f"{size} bytes were taken from the system")

    yield lambda: monkeypatch.setattr(memory, "_pages", refuse)


def taken(action: Callable[[], object]) -> tuple[int, int]:
    """The most bytes that Python and NumPy had more than before during an action, and what is left of it."""
    action()
    tracemalloc.start()
    try:
        action()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(STEPS):
            action()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before, after - before


def array_arguments(plan: Plan) -> int:
    return sum(isinstance(a, np.ndarray) for _, args in plan.steps for a in args)


def kernel_allocations(action: Callable[[], object]) -> int:
    """Blocks that compiled code takes during one action, among them one for each array that is handed to it."""
    action()
    nrt.memsys_enable_stats()
    try:
        before = rtsys.get_allocation_stats()
        action()
        after = rtsys.get_allocation_stats()
    finally:
        nrt.memsys_disable_stats()
    assert after.alloc - before.alloc == after.free - before.free
    return int(after.alloc - before.alloc)


def forbid_preparing(plan: Plan) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a weight that did not change was prepared again")

    for item in plan.prepared:
        item.calls = [(refuse, call) for _, call in item.calls]


def addresses(plan: Plan) -> list[int]:
    return [a.ctypes.data for _, args in plan.steps for a in args if isinstance(a, np.ndarray)]


@pytest.mark.parametrize("name", NETWORKS)
def test_inference(name: str, no_pages: Callable[[], None]) -> None:
    model, (x, _) = model_of(name), data_of(name)
    feeds = {"input": x}
    wanted = model.run(None, feeds)[0]
    plan = model.plan(feeds)
    places = addresses(plan)
    assert plan.prepared, "nothing is packed"
    forbid_preparing(plan)
    no_pages()
    peak, left = taken(lambda: model.run(None, feeds))
    assert peak < wanted.nbytes + SMALL and left < SMALL
    peak, left = taken(lambda: executor.execute(plan))
    assert peak < SMALL and left < SMALL
    assert kernel_allocations(lambda: executor.execute(plan)) <= array_arguments(plan)
    assert model.plan(feeds) is plan and addresses(plan) == places
    np.testing.assert_array_equal(model.run(None, feeds)[0], wanted)


@pytest.mark.parametrize("freeze", [[], ["conv1*"]], ids=["all", "frozen layer"])
@pytest.mark.parametrize("name", NETWORKS)
def test_training(name: str, freeze: list[str], no_pages: Callable[[], None]) -> None:
    model, (x, t) = model_of(name), data_of(name)
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.01, momentum=0.9), freeze=freeze)
    trainer.step(x, t)
    plan = trainer._bound({"input": x}, t).plan
    places = addresses(plan)
    masters = {name: p.data.ctypes.data for name, p in model.parameters.items() if name in trainer.trained}
    forbid_preparing(plan)
    no_pages()
    peak, left = taken(lambda: trainer.step(x, t))
    assert peak < SMALL and left < SMALL
    assert kernel_allocations(lambda: trainer.step(x, t)) <= array_arguments(plan)
    assert trainer._bound({"input": x}, t).plan is plan and addresses(plan) == places
    assert masters == {name: model.parameters[name].data.ctypes.data for name in masters}


def test_the_measure_sees_what_it_should() -> None:
    """An array in Python, one in compiled code."""
    import numba

    kept: list[np.ndarray] = []
    assert taken(lambda: kept.append(np.ones(1000)))[1] >= STEPS * 8000
    assert taken(lambda: np.ones(5000).sum())[0] >= 40000

    @numba.njit
    def allocate(n: int) -> float:
        return float(np.ones(n).sum())

    assert kernel_allocations(lambda: allocate(1000)) >= 1
