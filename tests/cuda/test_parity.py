"""Kernels of the two backends: the same names, the same parameters in the same order, the same opcodes."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType

import pytest

from nbcnn import kernels
from nbcnn.kernels import opcodes
from nbcnn.kernels.contract import CPU_ONLY, KERNELS

FAMILIES = sorted({family for family in KERNELS.values() if find_spec(f"nbcnn.kernels.cuda.{family}")})


TABLES = [  # functions that tell opcodes apart, and leave what they do not know uncomputed; "" is all of a file
    ("elementwise", "_apply"),
    ("elementwise", "_apply_pair"),
    ("elementwise", "_apply_grad"),
    ("arithmetic", ""),
    ("trigonometry", "_value"),
    ("trigonometry", "_slope"),
]


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


def told_apart(backend: str, family: str, function: str) -> set[str]:
    """The names of the opcodes that a function, or a whole file, compares something with."""
    file = Path(kernels.__file__).parent / backend / f"{family}.py"
    tree: ast.AST = ast.parse(file.read_text(encoding="utf-8"))
    if function:
        tree = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == function)
    others = [other for node in ast.walk(tree) if isinstance(node, ast.Compare) for other in node.comparators]
    names = {node.id for other in others for node in ast.walk(other) if isinstance(node, ast.Name)}
    return names & vars(opcodes).keys()


@pytest.mark.parametrize(("family", "function"), TABLES)
def test_a_gpu_knows_every_opcode(family: str, function: str) -> None:
    known = told_apart("cpu", family, function)
    assert len(known) > 5
    missing = known - told_apart("cuda", family, function)
    assert not missing, f"kernels/cuda/{family}.py {function} lacks {', '.join(sorted(missing))}"
