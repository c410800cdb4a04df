"""What waits for memory, on a GPU: GB/s of what must be moved, and the share of the measured copy.

The cases, and the bytes that count, are those of `python -m bench bandwidth`, on twice the pictures, and
reductions and optimizers; results are compared with PyTorch's. In precisions of 16 bits, what networks are made of,
with activations and gradients of 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from bench.bandwidth import CASES, Bound, Case, bound
from bench.gpu_networks import freeing
from bench.gpu_peers import put
from bench.gpu_sections import Item, Settings
from bench.gpu_timing import TOLERANCES, compare, deviation, repeated
from bench.models import OURS
from nbcnn.devices import HALVES, find_device
from nbcnn.optim import SGD, Adam, Optimizer
from nbcnn.report.agreement import Disagreement

__all__ = ["bandwidth"]

TIMES = 2
"""More pictures, or lines, than on a processor: the GPU's cache holds 50 MB."""
IN_HALVES = (
    *("Relu", "HardSwish", "Sigmoid, Mul", "Add", "MaxPool", "AveragePool", "GlobalAveragePool", "Relu gradient"),
    *("Sigmoid, Mul gradient", "MaxPool, taps kept", "MaxPool gradient", "BatchNorm, Relu", "BatchNorm sums"),
    "BatchNorm gradient",
)
"""Cases that are measured in 16 bits, too."""
TRIAL = {4: (1, 3, 6, 6), 2: (2, 8)}
"""Shapes for the simulator, by their number of dimensions."""
SIZE, TRIAL_SIZE = 50_000_000, 100
"""Elements that an optimizer's step changes."""


def _reduction(name: str, *nodes: tuple[str, tuple[str, ...], tuple[str, ...], dict[str, Any]]) -> Case:
    return Case(name, nodes, nodes[-1][0], lambda x, y: x + y, (25600, 1024))


REDUCTIONS = (
    _reduction("ReduceMean of lines", ("ReduceMean", ("x",), ("y",), {"axes": [1]})),
    _reduction("ReduceMax of lines", ("ReduceMax", ("x",), ("y",), {"axes": [1]})),
    _reduction(
        "ReduceSum of columns",
        ("Constant", (), ("axes",), {"value": np.array([0])}),
        ("ReduceSum", ("x", "axes"), ("y",), {}),
    ),
)
OPTIMIZERS: dict[str, tuple[Optimizer, Callable[[torch.Tensor], torch.optim.Optimizer]]] = {
    "sgd_update": (SGD(lr=0.1, momentum=0.9), lambda w: torch.optim.SGD([w], lr=0.1, momentum=0.9)),
    "adam_update": (Adam(lr=0.1), lambda w: torch.optim.Adam([w], lr=0.1)),
}
"""Kernel -> our optimizer and PyTorch's."""

Arrays = dict[str, torch.Tensor]
PROGRAMS: dict[str, Callable[[torch.Tensor, Arrays], torch.Tensor]] = {
    "Relu": lambda x, w: F.relu(x),
    "Sigmoid": lambda x, w: torch.sigmoid(x),
    "HardSwish": lambda x, w: F.hardswish(x),
    "Tanh": lambda x, w: torch.tanh(x),
    "Softplus": lambda x, w: F.softplus(x),
    "Log": lambda x, w: torch.log(x),
    "Sigmoid, Mul": lambda x, w: F.silu(x),
    "Softplus, Tanh, Mul": lambda x, w: F.mish(x),
    "Add, Clip, Mul, Div": lambda x, w: F.hardswish(x),
    "Div, Erf, Add, Mul, Mul": lambda x, w: F.gelu(x),
    "Mul, Pow, ... Tanh, Add, Mul": lambda x, w: F.gelu(x, approximate="tanh"),
    "Add": lambda x, w: x + x,
    "MaxPool": lambda x, w: F.max_pool2d(x, 3, 2, 1),
    "AveragePool": lambda x, w: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "GlobalAveragePool": lambda x, w: F.adaptive_avg_pool2d(x, 1),
    "Softmax": lambda x, w: F.softmax(x, -1),
    "BatchNorm": lambda x, w: F.relu(F.batch_norm(x, None, None, w["scale"], w["bias"], training=True)),
    "Gemm": lambda x, w: F.linear(x, w["w"]),
    "ReduceMean of lines": lambda x, w: x.mean(1, keepdim=True),
    "ReduceMax of lines": lambda x, w: x.amax(1, keepdim=True),
    "ReduceSum of columns": lambda x, w: x.sum(0, keepdim=True),
}
"""What PyTorch computes; a case is looked up without its " gradient", ", taps kept" and the like."""


def bandwidth(settings: Settings) -> Iterator[Item]:
    listed = [case for case in (*CASES, *REDUCTIONS) if not (settings.trial and "Gemm" in case.name)]
    halves = [how for how in settings.precisions if how in HALVES]
    for how in [*(["fp32"] if len(halves) < len(settings.precisions) else []), *halves]:
        mine = [case for case in listed if how == "fp32" or case.name in IN_HALVES]
        for case in mine[::4] if settings.quick else mine:
            yield Item(f"{case.name}, {how}", freeing(_case, settings, _sized(case, settings.trial), how))
    for kernel in OPTIMIZERS:
        yield Item(kernel, freeing(_update, settings, kernel))


def _sized(case: Case, trial: bool) -> Case:
    if trial:
        channels = TRIAL[4][1:2]
        return replace(case, shape=TRIAL[len(case.shape)], weights=dict.fromkeys(case.weights, channels))
    first = case.shape[0] if "Gemm" in case.name else TIMES * case.shape[0]
    return replace(case, shape=(first, *case.shape[1:]))


def _case(settings: Settings, case: Case, how: str) -> dict[str, Any]:
    found = bound(case, device=find_device("cuda", precision=how))
    ours, theirs = _result(found), _expected(case, found)
    undefined = np.isnan(theirs)  # logarithms of what is negative
    if not np.array_equal(np.isnan(ours), undefined):
        raise Disagreement(f"{case.name}: one side has NaN where the other has a number")
    difference = deviation(f"{case.name} {how}", ours[~undefined], theirs[~undefined], TOLERANCES[how])
    return _row(settings, case.name, how, found.compute, found.moved, difference)


def _result(found: Bound) -> np.ndarray:
    value = found.plan.graph.outputs[0]
    array = found.plan.fetch(value.name)
    return np.moveaxis(array, -1, 1) if value.layout == "last" else array


def _expected(case: Case, found: Bound) -> np.ndarray:
    name = next(key for key in sorted(PROGRAMS, key=len, reverse=True) if case.name.startswith(key))
    arrays = {key: put(array) for key, array in found.feeds.items()}
    x = arrays["x"].requires_grad_(case.train)
    y = PROGRAMS[name](x, arrays)
    if case.train:
        y.backward(arrays["dy"])
        assert x.grad is not None
        y = x.grad
    result: np.ndarray = y.detach().cpu().numpy()
    return result


def _update(settings: Settings, kernel: str) -> dict[str, Any]:
    """An optimizer's first step on one weight, compared with PyTorch's, and then timed."""
    device, (optimizer, theirs) = find_device("cuda", precision="fp32"), OPTIMIZERS[kernel]
    size = TRIAL_SIZE if settings.trial else SIZE
    rng, states = np.random.default_rng(0), len(optimizer.states)
    w, dw = (rng.random(size, dtype=np.float32) for _ in range(2))
    arrays = [device.put(a) for a in (w, dw, *(np.zeros(size, np.float32) for _ in range(states)))]
    update, hyper = device.load(kernel), device.put(optimizer.hyper(1, 0.0, 0.0))

    def work() -> None:
        update(*arrays, hyper, size)

    work()
    weight = put(w).requires_grad_()
    weight.grad = put(dw)
    theirs(weight).step()
    difference = deviation(kernel, device.read(arrays[0]), weight.detach().cpu().numpy(), TOLERANCES["fp32"])
    return _row(settings, kernel, "fp32", work, w.nbytes * (3 + 2 * states), difference)


def _row(
    settings: Settings, name: str, how: str, work: Callable[[], None], moved: int, difference: float
) -> dict[str, Any]:
    timing = compare([repeated(OURS, work)], settings.plan)[OURS]
    gbytes = moved / timing.median / 1e9
    found = {"operator": name, "precision": how, "bytes": moved, "gbytes": gbytes, "difference": difference}
    return {**found, **timing.as_dict()}
