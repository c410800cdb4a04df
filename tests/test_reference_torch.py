"""The oracle against PyTorch in float64: losses, optimizers, pools, batch norm, and derivatives at kinks and ties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference as ref

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the oracle is not compared with it")
functional = torch.nn.functional


def random(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def grads(f: Callable[..., Any], dy: Any, *args: Any) -> list[Any]:
    """y and the gradients of sum(dy * y) by every argument, as arrays."""
    tensors = [torch.tensor(np.asarray(arg, np.float64), requires_grad=True) for arg in args]
    y = f(*tensors)
    y.backward(torch.tensor(dy))
    return [y.detach().numpy(), *(t.grad.numpy() for t in tensors)]


# PyTorch keeps some constants in float32 even where it computes in float64, and so does ONNX for Selu.
FLOAT32_CONSTANTS = 2e-7


def close(actual: Any, expected: Any, rtol: float = 1e-11) -> None:
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-12)


P = np.linspace(0.02, 0.98, 24).reshape(2, 4, 3)
LABELS = np.array([[0, 3, 1], [2, 2, 0]])


@pytest.mark.parametrize(
    ("ours", "theirs", "pred", "target"),
    [
        (ref.softmax_cross_entropy, functional.cross_entropy, random(2, 4, 3) * 30, LABELS),
        (ref.softmax_cross_entropy, functional.cross_entropy, random(6, 4), LABELS.ravel()[:6]),
        (ref.softmax_cross_entropy, functional.cross_entropy, random(2, 4, 3), P),
        (ref.squared_error, functional.mse_loss, random(2, 4, 3), P),
        (ref.binary_cross_entropy, functional.binary_cross_entropy, P[:, ::-1].copy(), P),
        (ref.binary_cross_entropy_with_logits, functional.binary_cross_entropy_with_logits, random(2, 4, 3) * 400, P),
    ],
)
def test_losses(ours: Callable[..., Any], theirs: Callable[..., Any], pred: Any, target: Any) -> None:
    loss, d = ours(pred, target)
    expected, d_expected = grads(lambda x: theirs(x, torch.tensor(target)), 1.0, pred)
    close(loss, expected)
    close(d, d_expected)


def test_binary_cross_entropy_of_certainties() -> None:
    pred, target = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    loss, d = ref.binary_cross_entropy(pred, target)
    expected, d_expected = grads(lambda x: functional.binary_cross_entropy(x, torch.tensor(target)), 1.0, pred)
    close(loss, expected)
    close(d, d_expected, FLOAT32_CONSTANTS)


@pytest.mark.parametrize("attrs", [{}, {"momentum": 0.9}, {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1}])
def test_sgd(attrs: dict[str, Any]) -> None:
    w, velocity = random(5), np.zeros(5)
    theirs = torch.tensor(w)
    optimizer = torch.optim.SGD([theirs], lr=0.1, **attrs)
    for step in range(5):
        g = random(5, step + 1)[:, 0]
        w, velocity = ref.sgd(w, g, velocity, lr=0.1, **attrs)
        theirs.grad = torch.tensor(g)
        optimizer.step()
        close(w, theirs.numpy())


@pytest.mark.parametrize(("ours", "name"), [(ref.adam, "Adam"), (ref.adamw, "AdamW")])
@pytest.mark.parametrize("weight_decay", [None, 0.0, 0.2])
def test_adam(ours: Callable[..., Any], name: str, weight_decay: float | None) -> None:
    attrs = {} if weight_decay is None else {"weight_decay": weight_decay}
    w, m, v = random(5), np.zeros(5), np.zeros(5)
    theirs = torch.tensor(w)
    optimizer = getattr(torch.optim, name)([theirs], lr=0.01, betas=(0.8, 0.95), eps=1e-6, **attrs)
    for step in range(1, 6):
        g = random(5, step)[:, 0]
        w, m, v = ours(w, g, m, v, step, lr=0.01, beta1=0.8, beta2=0.95, eps=1e-6, **attrs)
        theirs.grad = torch.tensor(g)
        optimizer.step()
        close(w, theirs.numpy())


@pytest.mark.parametrize("size", [5, 6, 7, 8])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 2, 1), (2, 3, 1), (2, 2, 0), (3, 3, 1), (1, 3, 0)])
@pytest.mark.parametrize("ceil_mode", [0, 1])
def test_pools(size: int, kernel: int, stride: int, pad: int, ceil_mode: int) -> None:
    x = np.round(random(2, 3, size, size) * 2)  # many ties
    attrs: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    attrs["ceil_mode"] = ceil_mode
    y = ref.max_pool(x, **attrs)
    dy = random(*y.shape)
    expected, dx = grads(lambda x: functional.max_pool2d(x, kernel, stride, pad, ceil_mode=bool(ceil_mode)), dy, x)
    close(y, expected)
    close(ref.max_pool_backward(dy, x, **attrs), dx)
    for include in (0, 1):
        args = (kernel, stride, pad, bool(ceil_mode), bool(include))
        expected, dx = grads(lambda x, args=args: functional.avg_pool2d(x, *args), dy, x)
        close(ref.average_pool(x, count_include_pad=include, **attrs), expected)
        close(ref.average_pool_backward(dy, x, count_include_pad=include, **attrs), dx)


@pytest.mark.parametrize("shape", [(7, 3), (4, 3, 5), (2, 3, 4, 5)])
def test_batch_normalization_training(shape: tuple[int, ...]) -> None:
    x, scale, b, dy = random(*shape), random(3), random(3, 1)[:, 0], random(*shape) ** 2
    mean, var = torch.tensor(random(3, 2)[:, 0]), torch.tensor(random(3, 3)[:, 0] ** 2)
    y, new_mean, new_var = ref.batch_normalization_training(x, scale, b, mean, var, epsilon=1e-3, momentum=0.7)
    # PyTorch's running variance takes the sample variance: give ours to the comparison in its terms.
    count = x.size // 3
    axes = (0, *range(2, len(shape)))
    sample = (new_var - 0.7 * var.numpy()) * count / (count - 1)
    close(sample, 0.3 * x.var(axis=axes, ddof=1))
    expected, *gradients = grads(
        lambda x, s, b: functional.batch_norm(x, mean, var, s, b, training=True, momentum=0.3, eps=1e-3),
        dy,
        x,
        scale,
        b,
    )
    close(y, expected)
    close(new_mean, mean.numpy())  # which PyTorch has updated in place
    for ours, theirs in zip(ref.batch_normalization_training_backward(dy, x, scale, 1e-3), gradients, strict=True):
        close(ours, theirs)


KINKS = np.array([-3.0, -2.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.5, 3.0])


@pytest.mark.parametrize(
    ("name", "theirs", "attrs"),
    [
        ("relu", functional.relu, {}),
        ("leaky_relu", lambda x: functional.leaky_relu(x, 0.2), {"alpha": 0.2}),
        ("elu", lambda x: functional.elu(x, 0.7), {"alpha": 0.7}),
        ("selu", functional.selu, {}),
        ("hard_sigmoid", functional.hardsigmoid, {"alpha": 1 / 6, "beta": 0.5}),
        ("softplus", functional.softplus, {}),
        ("softsign", functional.softsign, {}),
        ("erf", torch.erf, {}),
        ("sigmoid", torch.sigmoid, {}),
        ("clip", lambda x: x.clamp(-1, 0.5), {"min": -1.0, "max": 0.5}),
        ("abs_", torch.abs, {}),
        ("sign", torch.sign, {}),
    ],
)
def test_derivatives_at_kinks(name: str, theirs: Callable[..., Any], attrs: dict[str, float]) -> None:
    expected, dx = grads(theirs, np.ones(KINKS.shape), KINKS)
    backward = getattr(ref, name.rstrip("_") + "_backward")
    close(getattr(ref, name)(KINKS, **attrs), expected, FLOAT32_CONSTANTS)
    close(backward(np.ones(KINKS.shape), KINKS, **attrs), dx, FLOAT32_CONSTANTS)


def test_prelu_at_zero() -> None:
    slope = np.array([0.3])
    _, dx, dslope = grads(functional.prelu, np.ones(KINKS.shape), KINKS, slope)
    ours = ref.prelu_backward(np.ones(KINKS.shape), KINKS, slope)
    close(ours[0], dx)
    close(ours[1], dslope)


def test_pow_at_zero_and_below() -> None:
    a, b = np.array([-2.0, -2.0, 0.0, 0.0, 0.0, 3.0]), np.array([2.0, 0.0, 0.0, 1.0, 2.0, 0.0])
    y, da, db = grads(torch.pow, np.ones(6), a, b)
    close(ref.pow_(a, b), y)
    close(ref.pow_backward(np.ones(6), a, b)[0], da)
    close(ref.pow_backward(np.ones(6), a, b)[1], db)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_lrn(size: int) -> None:
    """PyTorch's window of an even size reaches further down, ONNX's further up: compare with the channels reversed."""
    x, dy = random(2, 7, 3), random(2, 7, 3) ** 2
    y, dx = grads(lambda x: functional.local_response_norm(x, size, 0.3, 0.6, 1.5), dy, x)
    y_ours = ref.lrn(x[:, ::-1], size, 0.3, 0.6, 1.5)[:, ::-1]
    dx_ours = ref.lrn_backward(dy[:, ::-1], x[:, ::-1], size, 0.3, 0.6, 1.5)[:, ::-1]
    close(y_ours, y)
    close(dx_ours, dx)
