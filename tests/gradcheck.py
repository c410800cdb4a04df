"""Analytic gradients against central finite differences, along random directions, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def directional(
    f: Callable[..., float],
    args: Sequence[npt.NDArray[Any]],
    grads: Sequence[npt.NDArray[Any] | None],
    rng: np.random.Generator,
    eps: float = 1e-6,
    tolerance: float = 1e-6,
) -> None:
    """Assert for each argument that grads[i] . v = (f(args + eps v) - f(args - eps v)) / 2 eps, v a random unit vector.

    f(*args) is a scalar; args are float64 and are not changed; grads[i] has the shape of args[i], or is None for an
    argument that is not differentiated. The difference may be `tolerance` times the gradient's norm (or 1, if larger).
    Keep args further than eps from kinks and ties.
    """
    assert len(args) == len(grads), f"{len(args)} arguments, {len(grads)} gradients"
    for index, (arg, grad) in enumerate(zip(args, grads, strict=True)):
        if grad is None:
            continue
        assert arg.dtype == np.float64, f"argument {index} is {arg.dtype}: finite differences need float64"
        assert grad.shape == arg.shape, f"argument {index} {arg.shape} has a gradient {grad.shape}"
        v = rng.standard_normal(arg.shape)
        v /= np.linalg.norm(v)
        ahead, behind = list(args), list(args)
        ahead[index], behind[index] = arg + eps * v, arg - eps * v
        numeric = (f(*ahead) - f(*behind)) / (2 * eps)
        analytic = float((grad * v).sum())
        allowed = tolerance * max(1.0, float(np.linalg.norm(grad)))
        assert abs(analytic - numeric) <= allowed, (
            f"argument {index} {arg.shape}: gradient along v is {analytic:.12g}, finite differences say {numeric:.12g}"
        )


def check_backward(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    args: Sequence[npt.NDArray[Any]],
    rng: np.random.Generator,
    eps: float = 1e-6,
    tolerance: float = 1e-6,
) -> None:
    """Assert that backward(dy, *args) is the gradient of sum(dy * forward(*args)) for a random dy.

    backward returns one gradient, or a sequence of them with None for what is not differentiated; forward returns one
    array, or a list of them (then dy is a list too).
    """
    y = forward(*args)
    several = isinstance(y, list | tuple)
    dys = [rng.standard_normal(np.shape(part)) for part in (y if several else [y])]

    def projected(*at: npt.NDArray[Any]) -> float:
        outputs = forward(*at) if several else [forward(*at)]
        return float(sum((dy * out).sum() for dy, out in zip(dys, outputs, strict=True)))

    grads = backward(dys if several else dys[0], *args)
    if not isinstance(grads, list | tuple):
        grads = [grads]
    directional(projected, args, grads, rng, eps, tolerance)
