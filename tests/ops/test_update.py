"""Optimizer steps through the engine against the float64 oracle and PyTorch; settings and schedules of nbcnn.optim."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import reference as ref

from nbcnn import executor
from nbcnn.errors import InputError
from nbcnn.graph import Graph, Node, Value
from nbcnn.ops.packing import matrix
from nbcnn.optim import SGD, Adam, AdamW, Cosine, Optimizer, Schedule, StepDecay, Warmup
from nbcnn.parameter import Parameter
from nbcnn.passes.pack import pack_weights
from nbcnn.placement import Arena
from nbcnn.plan import Plan, build_plan
from nbcnn.threads import get_num_threads, set_num_threads

DTYPES = [np.float32, np.float64]
SIZES = [1, 5, 33, 40_000]
STEPS = 5
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-12}

OPTIMIZERS = [
    SGD(0.1),
    SGD(0.1, weight_decay=0.05),
    SGD(0.1, momentum=0.9, weight_decay=0.05),
    SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.05),
    Adam(0.02),
    Adam(0.02, betas=(0.7, 0.9), eps=1e-3, weight_decay=0.1),
    AdamW(0.02, weight_decay=0.3),
]


@dataclass
class Stepper:
    """One parameter with its optimizer's states, bound once; `step` feeds a gradient."""

    optimizer: Optimizer
    parameter: Parameter
    states: list[np.ndarray]
    settings: np.ndarray
    plan: Plan
    done: int = 0

    @classmethod
    def make(cls, optimizer: Optimizer, w: np.ndarray) -> Stepper:
        graph, parameter = Graph(), Parameter("w", w, w.dtype)
        settings = optimizer.hyper(1)
        states = {name: np.zeros(parameter.data.size, w.dtype) for name in optimizer.states}
        for name, array in {"w": w, "hyper": settings, **states}.items():
            graph.initializers[name] = array
            graph.values[name] = Value(name, array.dtype, array.shape)
        graph.inputs = [Value("dw", w.dtype, w.shape)]
        graph.values["dw"] = graph.inputs[0]
        graph.nodes.append(update(optimizer, list(states)))
        graph.prune()
        plan = build_plan(graph, {"w": parameter}, w.dtype, Arena(), threads=2)
        return cls(optimizer, parameter, list(states.values()), settings, plan)

    def step(self, dw: np.ndarray, *settings: float) -> np.ndarray:
        self.done += 1
        self.settings[:] = self.optimizer.hyper(self.done, *settings)
        self.plan.array("dw")[...] = dw
        executor.execute(self.plan)
        return self.parameter.value


def update(optimizer: Optimizer, states: list[str]) -> Node:
    return Node(optimizer.op, ["w", "dw", *states, "hyper"], [], {"effect": True}, name="update")


def draw(size: int, dtype: Any, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(dtype)


def expected_step(
    optimizer: Optimizer, w: np.ndarray, dw: np.ndarray, states: list[np.ndarray], step: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One step of the oracle: the weights and the states after it."""
    if isinstance(optimizer, SGD):
        velocity = states[0] if states else np.zeros(w.shape)
        lr, momentum = optimizer.lr, optimizer.momentum
        w, velocity = ref.sgd(w, dw, velocity, lr, momentum, optimizer.nesterov, optimizer.weight_decay)
        return w, [velocity] * len(states)
    assert isinstance(optimizer, Adam)
    oracle = ref.adamw if isinstance(optimizer, AdamW) else ref.adam
    m, v = states
    w, m, v = oracle(w, dw, m, v, step, optimizer.lr, *optimizer.betas, optimizer.eps, optimizer.weight_decay)
    return w, [m, v]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_steps(optimizer: Optimizer, size: int, dtype: Any) -> None:
    stepper = Stepper.make(optimizer, draw(size, dtype))
    w, states = draw(size, dtype).astype(np.float64), [np.zeros(size) for _ in optimizer.states]
    for step in range(1, STEPS + 1):
        dw = draw(size, dtype, seed=step)
        w, states = expected_step(optimizer, w, dw, states, step)
        np.testing.assert_allclose(stepper.step(dw), w, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    for got, want in zip(stepper.states, states, strict=True):
        np.testing.assert_allclose(got, want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_penalties(optimizer: Optimizer, dtype: Any) -> None:
    """They add their gradients to the loss's, by the weights before the step; that of |w| at zero is zero."""
    w0 = draw(50, dtype)
    w0[::7] = 0
    stepper = Stepper.make(optimizer, w0)
    w, states = w0.astype(np.float64), [np.zeros(50) for _ in optimizer.states]
    for step in range(1, 3):
        dw = draw(50, dtype, seed=step)
        dw[::14] = 0
        total = dw + ref.l1(w, 0.3)[1] + ref.l2(w, 0.2)[1]
        w, states = expected_step(optimizer, w, total, states, step)
        np.testing.assert_allclose(stepper.step(dw, 0.3, 0.2), w, rtol=3e-6, atol=TOLERANCE[dtype])
    assert not w[::14].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_against_pytorch(optimizer: Optimizer, dtype: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: optimizers are not compared with it")
    settings: dict[str, Any] = {k: v for k, v in vars(optimizer).items() if k != "lr"}
    tensor = torch.nn.Parameter(torch.tensor(draw(40, dtype)))
    theirs = getattr(torch.optim, type(optimizer).__name__)([tensor], lr=optimizer.lr, **settings)
    stepper = Stepper.make(optimizer, draw(40, dtype))
    for step in range(1, 20):
        dw = draw(40, dtype, seed=step)
        tensor.grad = torch.tensor(dw)
        theirs.step()
        tolerance = 5 * TOLERANCE[dtype]
        np.testing.assert_allclose(stepper.step(dw), tensor.detach().numpy(), rtol=tolerance, atol=tolerance)


def test_a_changed_learning_rate_is_used_at_once() -> None:
    optimizer = SGD(0.5)
    stepper = Stepper.make(optimizer, np.zeros(3))
    assert stepper.step(np.ones(3)).tolist() == [-0.5] * 3
    optimizer.lr = 0.25
    assert stepper.step(np.ones(3)).tolist() == [-0.75] * 3
    assert stepper.step(np.ones(3), 0, 0, 0.5).tolist() == [-0.875] * 3


@pytest.mark.parametrize("make", [SGD, Adam, AdamW])
def test_a_scale_is_a_factor_of_the_learning_rate(make: Any) -> None:
    np.testing.assert_allclose(make(0.3).hyper(4, 0.1, 0.2, 0.5), make(0.15).hyper(4, 0.1, 0.2), rtol=1e-15)


@pytest.mark.parametrize("optimizer", [OPTIMIZERS[3], OPTIMIZERS[6]], ids=repr)
def test_threads_do_not_change_a_step(optimizer: Optimizer) -> None:
    most, found = get_num_threads(), []
    try:
        for count in (1, most):
            set_num_threads(count)
            found.append(Stepper.make(optimizer, draw(40_001, np.float32)).step(draw(40_001, np.float32, 1)))
    finally:
        set_num_threads(most)
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_nan_stays_nan(optimizer: Optimizer) -> None:
    w = Stepper.make(optimizer, draw(40, np.float32)).step(np.where(np.arange(40) == 3, np.nan, 1).astype(np.float32))
    assert np.isnan(w[3]) and np.isfinite(np.delete(w, 3)).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_a_packed_parameter_is_updated_where_it_lies(optimizer: Optimizer) -> None:
    """The gradient stays in panels, and the padding stays zero."""
    rng = np.random.default_rng(1)
    x, w, dy = (rng.standard_normal(shape) for shape in ((6, 9), (11, 9), (6, 11)))
    packing = matrix(11, 9, output_first=True, itemsize=8)
    assert packing.size > w.size
    parameter = Parameter("w", w, w.dtype)
    parameter.store_as(packing.storage())
    states = {name: np.zeros(packing.size) for name in optimizer.states}
    graph = Graph(initializers={"w": w, "hyper": optimizer.hyper(1), **states})
    for name, array in {"x": x, "dy": dy, "dw": w, **graph.initializers}.items():
        graph.values[name] = Value(name, array.dtype, array.shape)
    graph.inputs = [graph.values["x"], graph.values["dy"]]
    graph.nodes = [Node("GemmWeightGrad", ["x", "dy"], ["dw"], {"transB": True})]
    graph.nodes.append(update(optimizer, list(states)))
    pack_weights(graph, {"w": parameter})
    assert [node.op for node in graph.nodes] == ["GemmWeightGrad", optimizer.op]
    plan = build_plan(graph, {"w": parameter}, w.dtype, Arena(), threads=2)
    plan.array("x")[...], plan.array("dy")[...] = x, dy
    executor.execute(plan)
    dw = dy.T @ x
    expected, _ = expected_step(optimizer, w, dw, [np.zeros(w.shape) for _ in states], 1)
    np.testing.assert_allclose(parameter.value, expected, rtol=1e-11, atol=1e-12)
    for array in (parameter.data, *states.values()):
        assert np.count_nonzero(array) == w.size


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SGD(-1), "lr must be a number that is not negative, not -1"),
        (lambda: SGD(math.nan), "lr must be"),
        (lambda: SGD("0.1"), "lr must be"),  # type: ignore[arg-type]
        (lambda: SGD(0.1, momentum=1), "momentum must be at least 0 and less than 1"),
        (lambda: SGD(0.1, nesterov=True), "momentum must be greater than zero with nesterov=True"),
        (lambda: SGD(0.1, weight_decay=-1), "weight_decay"),
        (lambda: Adam(betas=(0.9, 1.0)), r"betas\[1\]"),
        (lambda: Adam(betas=0.9), "betas must be two numbers"),  # type: ignore[arg-type]
        (lambda: Adam(eps=0), "eps must be a number greater than zero"),
        (lambda: AdamW(math.inf), "lr must be"),
        (lambda: SGD(0.1).hyper(0), "step must be at least 1"),
        (lambda: SGD(0.1).hyper(1, l1=-1), "l1"),
        (lambda: SGD(0.1).hyper(1, l2=math.nan), "l2"),
        (lambda: SGD(0.1).hyper(1, scale=-1), "the schedule's factor must be"),
        (lambda: StepDecay(0), "every"),
        (lambda: Cosine(-3), "total"),
        (lambda: Warmup(0), "length"),
    ],
)
def test_settings_that_make_no_sense(make: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


def test_a_setting_changed_for_the_worse_is_found_at_the_next_step() -> None:
    optimizer = Adam()
    optimizer.lr = -1
    with pytest.raises(InputError, match="lr"):
        optimizer.hyper(1)


def test_schedules() -> None:
    decay = StepDecay(every=10, factor=0.5)
    assert [decay(step) for step in (1, 10, 11, 30, 31)] == [1, 1, 0.5, 0.25, 0.125]
    cosine = Cosine(total=4, end=0.2)
    np.testing.assert_allclose([cosine(step) for step in (1, 3, 5, 10)], [1, 0.6, 0.2, 0.2])
    warm = Warmup(4, decay, start=0.2)
    np.testing.assert_allclose([warm(step) for step in (1, 2, 4, 5, 14, 15)], [0.4, 0.6, 1, 1, 1, 0.5])
    assert [Warmup(4)(step) for step in (1, 2, 4, 500)] == [0.25, 0.5, 1, 1]


def test_schedules_against_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: schedules are not compared with it")
    pairs: list[tuple[Schedule, Callable[[Any], Any]]] = [
        (StepDecay(3), lambda o: torch.optim.lr_scheduler.StepLR(o, 3)),
        (Cosine(12, 0.1), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 12, 0.03)),
    ]
    for ours, theirs in pairs:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
        schedule = theirs(optimizer)
        for step in range(1, 13):
            np.testing.assert_allclose(0.3 * ours(step), optimizer.param_groups[0]["lr"], rtol=1e-12)
            optimizer.step()
            schedule.step()
