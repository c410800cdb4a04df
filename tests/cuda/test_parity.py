"""Kernels of the two backends: the same names, and the same parameters in the same order."""

from __future__ import annotations

import inspect
from importlib import import_module
from importlib.util import find_spec
from types import FunctionType

import pytest

from nbcnn import kernels
from nbcnn.kernels.contract import CPU_ONLY, KERNELS

FAMILIES = sorted({family for family in KERNELS.values() if find_spec(f"nbcnn.kernels.cuda.{family}")})


def launchers(family: str) -> dict[str, FunctionType]:
    """A family's kernels on a GPU, with the twins in full precision of those that multiply on tensor cores."""
    module = import_module(f"nbcnn.kernels.cuda.{family}")
    names = [name for name, own in KERNELS.items() if own == family]
    found = {name: getattr(module, name, None) for name in [*names, *(f"{name}_fp32" for name in names)]}
    return {name: code for name, code in found.items() if code is not None}


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_the_same(family: str) -> None:
    for name, code in launchers(family).items():
        twin = kernels.load("cpu", name.removesuffix("_fp32")).py_func
        assert [*inspect.signature(code).parameters] == [*inspect.signature(twin).parameters], name


def test_a_gpu_has_what_does_not_only_pay_on_a_processor() -> None:
    offered = {name.removesuffix("_fp32") for family in FAMILIES for name in launchers(family)}
    assert set(KERNELS) - offered == set(CPU_ONLY)


def test_reasons_are_given() -> None:
    assert all(reason.strip() for reason in CPU_ONLY.values())
