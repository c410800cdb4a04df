"""Einsum against numpy.einsum, and its gradients against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channels_last import ChannelsLast
from gradcheck import directional
from harness import Case

from nbcnn.errors import ModelError

RNG = np.random.default_rng(31)
EQUATIONS: list[tuple[str, list[tuple[int, ...]]]] = [
    ("ij->ji", [(3, 5)]),
    ("ij", [(3, 5)]),
    ("ba", [(3, 5)]),
    ("ij->", [(3, 5)]),
    ("ijk->ik", [(2, 3, 4)]),
    ("ii", [(4, 4)]),
    ("ii->i", [(4, 4)]),
    ("...ii->...i", [(2, 3, 4, 4)]),
    ("ijij->ij", [(2, 3, 2, 3)]),
    ("i,i", [(5,), (5,)]),
    ("i,j->ij", [(5,), (3,)]),
    ("ij,jk", [(2, 3), (3, 4)]),
    ("ij, jk -> ki", [(2, 3), (3, 4)]),
    ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
    ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
    ("bhwqk,bhvk->bhqv", [(2, 3, 2, 4, 5), (2, 3, 6, 5)]),
    ("nchw,oc->nohw", [(2, 5, 3, 4), (7, 5)]),
    ("nchw,nchw->nhw", [(2, 5, 3, 4), (2, 5, 3, 4)]),
    ("nchw,c->nchw", [(2, 5, 3, 4), (5,)]),
    ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]),
    ("ij,ij,ij->j", [(2, 3), (2, 3), (2, 3)]),
    ("...ij,...jk->...ik", [(2, 1, 3, 4), (5, 4, 2)]),
    ("...i,...i", [(2, 3, 4), (3, 4)]),
    ("i...->...", [(2, 3, 4)]),
    ("ab...,b...->...a", [(2, 3, 4), (3, 4)]),
    ("ij,kj->ik", [(2, 1), (3, 4)]),
    ("ij,jk->ik", [(2, 0), (0, 4)]),
]
KINDS = [(Case, np.float32), (Case, np.float64), (ChannelsLast, np.float32)]


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS)
def test_against_numpy(equation: str, shapes: list[tuple[int, ...]], kind: type[Case], dtype: Any) -> None:
    xs = [RNG.standard_normal(shape) for shape in shapes]
    expected = np.einsum(equation, *xs)
    inputs: list[np.ndarray | None] = [x.astype(dtype) for x in xs]
    case = kind("Einsum", inputs, {"equation": equation}, dtype=dtype)
    near: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5} if dtype is np.float32 else {"rtol": 1e-13, "atol": 1e-13}
    np.testing.assert_allclose(case.run()[0], expected, **near)
    if kind is ChannelsLast or not all(x.size for x in xs):
        return
    dy = RNG.standard_normal(expected.shape)
    (y,), grads = case.run_training([dy.astype(dtype)], tuple(range(len(xs))))
    np.testing.assert_allclose(y, expected, **near)
    if dtype is np.float64:
        directional(lambda *xs: float((dy * np.einsum(equation, *xs)).sum()), xs, grads, RNG)


def test_integers() -> None:
    a, b = RNG.integers(-9, 9, (2, 3, 4)), RNG.integers(-9, 9, (4, 5))
    (y,) = Case("Einsum", [a, b], {"equation": "...j,jk->...k"}).run()
    assert y.dtype == np.int64
    np.testing.assert_array_equal(y, a @ b)


@pytest.mark.parametrize(
    ("equation", "message"),
    [
        ("ij,jk->ik", "has 2 terms for 1 inputs"),
        ("i->i", "the term 'i' does not fit 2 dimensions"),
        ("ijk->i", "the term 'ijk' does not fit 2 dimensions"),
        ("i1->i", "the term 'i1' does not fit 2 dimensions"),
        ("ij->ik", "the output names what no input has, or one index twice"),
        ("ij->ii", "the output names what no input has, or one index twice"),
        ("ii->i", "'i' is 2 and 3"),
    ],
)
def test_what_does_not_fit(equation: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Case("Einsum", [np.zeros((2, 3), np.float32)], {"equation": equation}).run()
