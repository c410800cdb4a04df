"""Initial weights: their distributions against the published formulas, and what a seed means."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from nbcnn import init
from nbcnn.errors import InputError

CONV, GEMM = (64, 48, 3, 5), (200, 300)
RANDOM = ("glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "uniform_fan_in")
# Variances, written out: CONV has fan_in 48 * 15 = 720 and fan_out 64 * 15 = 960; GEMM 300 and 200.
VARIANCES = {
    ("glorot_uniform", CONV): 2 / 1680,
    ("glorot_uniform", GEMM): 2 / 500,
    ("glorot_normal", CONV): 2 / 1680,
    ("glorot_normal", GEMM): 2 / 500,
    ("he_uniform", CONV): 2 / 720,
    ("he_uniform", GEMM): 2 / 300,
    ("he_normal", CONV): 2 / 720,
    ("he_normal", GEMM): 2 / 300,
    ("uniform_fan_in", CONV): 1 / (3 * 720),
    ("uniform_fan_in", GEMM): 1 / (3 * 300),
}


@pytest.mark.parametrize(("name", "shape"), VARIANCES, ids=str)
def test_distribution(name: str, shape: tuple[int, ...]) -> None:
    array = init.initializer(name)(shape, 5)
    variance, count = VARIANCES[name, shape], array.size
    assert array.dtype == np.float32 and array.shape == shape and array.flags.c_contiguous
    # Five standard errors of the mean and of the variance; a uniform distribution's kurtosis is 9/5, a normal one's 3.
    kurtosis = 3 if name.endswith("normal") else 9 / 5
    values = array.astype(np.float64)
    assert abs(values.mean()) < 5 * sqrt(variance / count)
    assert abs(values.var() / variance - 1) < 5 * sqrt((kurtosis - 1) / count)
    assert np.mean(values**4) / values.var() ** 2 == pytest.approx(kurtosis, rel=0.1)


@pytest.mark.parametrize(
    ("name", "bound"),
    [("glorot_uniform", sqrt(6 / 1680)), ("he_uniform", sqrt(6 / 720)), ("uniform_fan_in", 1 / sqrt(720))],
)
def test_uniform_fills_its_bounds(name: str, bound: float) -> None:
    array = init.initializer(name)(CONV, 0)
    assert -bound <= array.min() < -0.999 * bound and 0.999 * bound < array.max() <= bound


@pytest.mark.parametrize("name", RANDOM)
def test_same_as_torch(name: str) -> None:
    """The bounds and deviations, taken from torch.nn.init by drawing much."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    there = {
        "glorot_uniform": torch.nn.init.xavier_uniform_,
        "glorot_normal": torch.nn.init.xavier_normal_,
        "he_uniform": torch.nn.init.kaiming_uniform_,
        "he_normal": torch.nn.init.kaiming_normal_,
        "uniform_fan_in": lambda w, generator: torch.nn.init.kaiming_uniform_(w, a=sqrt(5), generator=generator),
    }
    theirs = there[name](torch.empty(CONV), generator=torch.Generator().manual_seed(0)).numpy()
    assert init.initializer(name)(CONV, 0).std() == pytest.approx(theirs.std(), rel=0.02)


@pytest.mark.parametrize("name", RANDOM)
def test_seed_decides(name: str) -> None:
    make = init.initializer(name)
    np.testing.assert_array_equal(make(GEMM, 3), make(GEMM, 3))
    np.testing.assert_array_equal(make(GEMM, 3), make(GEMM, np.random.default_rng(3)))
    assert not np.array_equal(make(GEMM, 3), make(GEMM, 4))
    rng = np.random.default_rng(3)
    assert not np.array_equal(make(GEMM, rng), make(GEMM, rng)), "a generator moves on"


def test_constants() -> None:
    np.testing.assert_array_equal(init.zeros((2, 3)), np.zeros((2, 3), np.float32), strict=True)
    np.testing.assert_array_equal(init.ones((4,)), np.ones(4, np.float32), strict=True)


def test_fans_of_a_grouped_convolution() -> None:
    assert init.fans((8, 2, 3, 3)) == (18, 72)


def test_no_fan_in() -> None:
    with pytest.raises(InputError, match=r"shape \(3,\) has no fan-in"):
        init.he_normal((3,))


def test_unknown_name() -> None:
    with pytest.raises(InputError, match="no initialization is called 'xavier': use one of glorot_uniform, "):
        init.initializer("xavier")


def test_a_function_is_taken_as_it_is() -> None:
    assert init.initializer(init.ones) is init.ones
