"""Optimizers and learning-rate schedules: settings only. What they compute is in nbcnn/kernels/cpu/update.py.

An optimizer's settings may be changed between steps (`optimizer.lr = 0.01`): each step checks them again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nbcnn.errors import InputError

__all__ = ["SGD", "Adam", "AdamW", "Cosine", "Optimizer", "Schedule", "StepDecay", "Warmup"]

Schedule = Callable[[int], float]
"""Step, counted from 1 -> factor of the optimizer's learning rate."""


def _require(good: bool, name: str, value: object, what: str) -> None:
    if not good:
        raise InputError(f"{name} must be {what}, not {value!r}")


def _not_negative(name: str, value: float) -> None:
    _require(_number(value) and value >= 0, name, value, "a number that is not negative")


def _positive(name: str, value: float) -> None:
    _require(_number(value) and value > 0, name, value, "a number greater than zero")


def _fraction(name: str, value: float) -> None:
    _require(_number(value) and 0 <= value < 1, name, value, "at least 0 and less than 1")


def _number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and math.isfinite(value)


@dataclass
class Optimizer:
    """What the trainer needs of an optimizer.

    op: the node that makes its step on one parameter (nbcnn/ops/update.py).
    """

    op: ClassVar[str]
    lr: float

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise InputError for a setting that makes no sense."""
        _not_negative("lr", self.lr)

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the arrays that are kept for each parameter, of its size and zero at first."""
        raise NotImplementedError

    def hyper(self, step: int, l1: float = 0.0, l2: float = 0.0, scale: float = 1.0) -> np.ndarray:
        """The settings of one step, float64, in the order that `op` wants. step: counted from 1.

        l1, l2: strengths of the penalties l1 * sum|w| and l2 / 2 * sum w^2, whose gradients join that of the loss.
        scale: a factor of the learning rate, a schedule's. Raises InputError for a setting that makes no sense.
        """
        self.check()
        _require(step >= 1, "step", step, "at least 1")
        _not_negative("l1", l1)
        _not_negative("l2", l2)
        _not_negative("the schedule's factor", scale)
        return np.array(self._settings(step, self.lr * scale, l1, l2), np.float64)

    def _settings(self, step: int, lr: float, l1: float, l2: float) -> list[float]:
        raise NotImplementedError


@dataclass
class SGD(Optimizer):
    """Gradient descent with momentum, as torch.optim.SGD.

    g = dw + weight_decay * w;  v = momentum * v + g;  w = w - lr * v, or with nesterov w - lr * (g + momentum * v).
    """

    op: ClassVar[str] = "SGDUpdate"
    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def check(self) -> None:
        super().check()
        _fraction("momentum", self.momentum)
        _not_negative("weight_decay", self.weight_decay)
        _require(
            self.momentum > 0 or not self.nesterov, "momentum", self.momentum, "greater than zero with nesterov=True"
        )

    @property
    def states(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def _settings(self, step: int, lr: float, l1: float, l2: float) -> list[float]:
        return [lr, self.momentum, float(self.nesterov), self.weight_decay + l2, l1]


@dataclass
class Adam(Optimizer):
    """Adam (arXiv:1412.6980), as torch.optim.Adam: the weight decay is part of the gradient."""

    op: ClassVar[str] = "AdamUpdate"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def check(self) -> None:
        super().check()
        betas: object = self.betas
        _require(isinstance(betas, tuple | list) and len(betas) == 2, "betas", betas, "two numbers")
        _fraction("betas[0]", self.betas[0])
        _fraction("betas[1]", self.betas[1])
        _positive("eps", self.eps)
        _not_negative("weight_decay", self.weight_decay)

    @property
    def states(self) -> tuple[str, ...]:
        return ("m", "v")

    def _settings(self, step: int, lr: float, l1: float, l2: float) -> list[float]:
        return self._steps(step, lr, 1.0, l1, l2 + self.weight_decay)

    def _steps(self, step: int, lr: float, shrink: float, l1: float, l2: float) -> list[float]:
        beta1, beta2 = self.betas
        correction = 1 / math.sqrt(1 - beta2**step)
        return [lr / (1 - beta1**step), shrink, beta1, beta2, self.eps, correction, l2, l1]


@dataclass
class AdamW(Adam):
    """Adam with decoupled weight decay (arXiv:1711.05101), as torch.optim.AdamW: w loses lr * weight_decay * w."""

    weight_decay: float = 1e-2

    def _settings(self, step: int, lr: float, l1: float, l2: float) -> list[float]:
        return self._steps(step, lr, 1 - lr * self.weight_decay, l1, l2)


@dataclass(frozen=True)
class StepDecay:
    """The rate, multiplied by `factor` after every `every` steps."""

    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        _positive("every", self.every)
        _not_negative("factor", self.factor)

    def __call__(self, step: int) -> float:
        return float(self.factor ** ((step - 1) // self.every))


@dataclass(frozen=True)
class Cosine:
    """From the whole rate down to the share `end` of it after `total` steps, along half a cosine (arXiv:1608.03983)."""

    total: int
    end: float = 0.0

    def __post_init__(self) -> None:
        _positive("total", self.total)
        _not_negative("end", self.end)

    def __call__(self, step: int) -> float:
        done = min((step - 1) / self.total, 1.0)
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class Warmup:
    """A line from the share `start` of the rate, before step 1, to all of it at step `length` (arXiv:1706.02677).

    Then `schedule` begins, with its step 1; without one the rate stays.
    """

    length: int
    schedule: Schedule | None = None
    start: float = 0.0

    def __post_init__(self) -> None:
        _positive("length", self.length)
        _not_negative("start", self.start)

    def __call__(self, step: int) -> float:
        if step <= self.length:
            return self.start + (1 - self.start) * step / self.length
        return self.schedule(step - self.length) if self.schedule else 1.0
