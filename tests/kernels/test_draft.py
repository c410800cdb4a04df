"""Kernels are compiled as a whole; what they are made of stays whole for others that use it too."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from nbcnn.kernels.cpu.draft import _Draft
from nbcnn.kernels.cpu.jit import apart, kernel, serial, small_kernel


@serial
def _scaled(x, by):
    for i in range(x.size):
        x[i] *= by


@kernel
def scale(x, by):
    for index in numba.prange(3):
        part = np.int64(index)
        _scaled(x[2 * part : 2 * part + 2], by)


def library(dispatcher: object) -> object:
    (result,) = dispatcher.overloads.values()  # type: ignore[attr-defined]
    return result.library


def test_only_the_kernel_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "_cache", numba.core.caching.NullCache())
    x = np.arange(6.0)
    scale(x, 3.0)
    assert x.tolist() == [0, 3, 6, 9, 12, 15]
    assert isinstance(library(_scaled), _Draft)
    assert not isinstance(library(scale), _Draft)
    codegen = numba.core.registry.cpu_target.target_context.codegen()
    assert "create_library" not in vars(codegen)  # others compile as ever


@numba.njit
def checked(x: float) -> float:
    if x < 0:
        raise ValueError("below zero", 7)
    return x + 1


@small_kernel
def first_user(x):
    x[0] = checked(x[0])


def test_what_a_kernel_used_first_can_be_used_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_user, "_cache", numba.core.caching.NullCache())
    x = np.array([1.0])
    first_user(x)
    assert x[0] == 2

    @numba.njit
    def other(value):
        return checked(value) * 10

    assert (other(1.0), checked(1.0)) == (20.0, 2.0)
    for function in (other, checked):
        with pytest.raises(ValueError, match="below zero"):
            function(-1.0)
    with pytest.raises(ValueError, match="below zero"):
        first_user(np.array([-1.0]))


def test_functions_of_numba_that_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    @small_kernel
    def find(x, values):
        x[0] = values.index(np.int64(x[0]))

    monkeypatch.setattr(find, "_cache", numba.core.caching.NullCache())
    x = np.array([5.0])
    find(x, (4, 5, 6))
    assert x[0] == 1

    @numba.njit
    def other(value, values):
        return values.index(value)

    assert other(6, (4, 5, 6)) == 2
    for call in (lambda: find(np.array([9.0]), (4, 5, 6)), lambda: other(9, (4, 5, 6))):
        with pytest.raises(ValueError, match="not in tuple"):
            call()


@apart
def _tripled(v):
    return v * 3


@small_kernel
def triple(x):
    for i in range(x.size):
        x[i] = _tripled(x[i])


def test_what_is_apart_stays_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triple, "_cache", numba.core.caching.NullCache())
    x = np.arange(3.0)
    triple(x)
    assert x.tolist() == [0, 3, 6]
    names = [function.name for function in library(triple).get_defined_functions()]  # type: ignore[attr-defined]
    assert any("_tripled" in name for name in names)
