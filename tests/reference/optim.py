"""One optimizer step on one parameter, as PyTorch defines it: new values are returned, nothing is changed in place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reference._float64 import Array, f64


def sgd(
    w: npt.ArrayLike,
    dw: npt.ArrayLike,
    velocity: npt.ArrayLike,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> tuple[Array, Array]:
    """torch.optim.SGD -> (w, velocity); velocity starts at 0."""
    g = f64(dw) + weight_decay * f64(w)
    velocity = momentum * f64(velocity) + g
    return f64(w) - lr * (g + momentum * velocity if nesterov else velocity), velocity


def adam(
    w: npt.ArrayLike,
    dw: npt.ArrayLike,
    m: npt.ArrayLike,
    v: npt.ArrayLike,
    step: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[Array, Array, Array]:
    """torch.optim.Adam (arXiv 1412.6980) -> (w, m, v); m and v start at 0, step at 1; the decay joins the gradient."""
    g = f64(dw) + weight_decay * f64(w)
    m = beta1 * f64(m) + (1 - beta1) * g
    v = beta2 * f64(v) + (1 - beta2) * g**2
    m_hat, v_hat = m / (1 - beta1**step), v / (1 - beta2**step)
    return f64(w) - lr * m_hat / (np.sqrt(v_hat) + eps), m, v


def adamw(
    w: npt.ArrayLike,
    dw: npt.ArrayLike,
    m: npt.ArrayLike,
    v: npt.ArrayLike,
    step: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> tuple[Array, Array, Array]:
    """torch.optim.AdamW (arXiv 1711.05101): the decay w -= lr * weight_decay * w stays out of the moments."""
    return adam(f64(w) * (1 - lr * weight_decay), dw, m, v, step, lr, beta1, beta2, eps)
