"""Optimizer steps on a GPU against the oracle, penalties included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference

from nbcnn.devices import find_device
from nbcnn.optim import SGD, Adam, AdamW, Optimizer

RNG = np.random.default_rng(8)
TOLERANCE = {np.float32: 3e-6, np.float64: 1e-12}
L1, L2 = 0.3, 0.2
OPTIMIZERS = [
    SGD(0.1, weight_decay=0.05),
    SGD(0.1, momentum=0.9),
    SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.05),
    Adam(0.02, betas=(0.7, 0.9), eps=1e-3, weight_decay=0.1),
    AdamW(0.02, weight_decay=0.3),
]


def expected(optimizer: Optimizer, w: np.ndarray, dw: np.ndarray, states: list[np.ndarray], step: int) -> Any:
    """The weights and the states after the oracle's step, by a gradient with the penalties' in it."""
    dw = dw + reference.l1(w, L1)[1] + reference.l2(w, L2)[1]
    if isinstance(optimizer, SGD):
        velocity = states[0] if states else np.zeros(w.shape)
        lr, momentum, decay = optimizer.lr, optimizer.momentum, optimizer.weight_decay
        w, velocity = reference.sgd(w, dw, velocity, lr, momentum, optimizer.nesterov, decay)
        return w, [velocity] * len(states)
    assert isinstance(optimizer, Adam)
    oracle = reference.adamw if isinstance(optimizer, AdamW) else reference.adam
    w, *states = oracle(w, dw, *states, step, optimizer.lr, *optimizer.betas, optimizer.eps, optimizer.weight_decay)
    return w, states


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 5, 331])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_steps(optimizer: Optimizer, size: int, dtype: Any) -> None:
    from nbcnn.kernels.cuda.update import adam_update, sgd_update

    gpu = find_device("cuda")
    w = RNG.standard_normal(size).astype(dtype)
    w[::7] = 0
    wanted, states = w.astype(np.float64), [np.zeros(size) for _ in optimizer.states]
    weights, kept = gpu.put(w.copy()), [gpu.put(np.zeros(size, dtype)) for _ in optimizer.states]
    for step in range(1, 4):
        dw = RNG.standard_normal(size).astype(dtype)
        dw[::14] = 0
        wanted, states = expected(optimizer, wanted, dw, states, step)
        hyper = gpu.put(np.array(optimizer.hyper(step, L1, L2)))
        if isinstance(optimizer, SGD):
            sgd_update(weights, gpu.put(dw), *(kept or [gpu.put(np.zeros(0, dtype))]), hyper, size)
        else:
            adam_update(weights, gpu.put(dw), *kept, hyper, size)
        found = gpu.read(weights)
        np.testing.assert_allclose(found, wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        assert not found[::14].any()
    for got, want in zip(kept, states, strict=True):
        np.testing.assert_allclose(gpu.read(got), want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
