"""onnx's own tests of backends, but for what bench/onnx_excluded.py leaves out with a reason."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from bench.onnx import KINDS, REPORT, collect, render
from bench.onnx_excluded import OPERATORS, TESTS
from nbcnn.onnx_io.backend import Backend

SUITE = collect()
TAKEN = {test.name for test in SUITE if not test.excluded}


def _cases() -> dict[str, type]:
    """The classes of onnx's runner, with the tests that are taken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test import BackendTest

        cases = BackendTest(Backend, __name__).test_cases
    for case in cases.values():
        for name in [name for name in vars(case) if name.startswith("test_")]:
            if not name.endswith("_cpu") or name.removesuffix("_cpu") not in TAKEN:
                delattr(case, name)
    return cases


globals().update(_cases())


def test_every_exclusion_is_of_something() -> None:
    names = {test.name for test in SUITE}
    assert set(TESTS) <= names
    reasons = {test.excluded for test in SUITE}
    assert {*OPERATORS.values(), *TESTS.values()} <= reasons


def test_all_kinds_are_there() -> None:
    assert {test.kind for test in SUITE} == set(KINDS)


def test_the_table_is_current() -> None:
    written = Path(REPORT).read_text(encoding="utf-8")
    if re.search(r"\bonnx \S+ has", written) is None:
        pytest.fail(f"{REPORT.name} does not name a version of onnx")
    import onnx

    if f"onnx {onnx.__version__} has" not in written:
        pytest.skip(f"{REPORT.name} was written for another version of onnx than {onnx.__version__}")
    assert written == render(SUITE), "run `python -m bench onnx --write`"
