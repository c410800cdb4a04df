"""These tests run in Numba's CUDA simulator, or where the environment variable NBCNN_CUDA says so otherwise.

- gpu: on a GPU.
- ptx: nowhere. Every kernel is compiled, with the types that the plans give it; results mean nothing, so that failed
  assertions, and losses that are not finite, are no failures. What was compiled is written to the file that NBCNN_PTX
  names, for test_ptx.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcnn.errors import TrainingError
from nbcnn.report.agreement import Disagreement

TARGET = os.environ.setdefault("NBCNN_CUDA", "simulator")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Iterator[None]:
    try:
        return (yield)
    except (AssertionError, pytest.fail.Exception, Disagreement, TrainingError):
        if TARGET != "ptx":
            raise
        return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The simulator computes with NumPy, which warns of infinities and NaN where a GPU does not, and now and then where
    there are none.

    Double precision is for the comparison with the oracle: the types that networks have are enough to compile.
    """
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning"))
    if TARGET == "ptx":
        items[:] = [item for item in items if here in item.path.parents and "float64" not in item.name]


def pytest_sessionfinish() -> None:
    target = os.environ.get("NBCNN_PTX")
    if TARGET == "ptx" and target:
        from nbcnn.kernels.cuda._cuda import COMPILED

        rows = [[*key, text] for key, text in COMPILED.items()]
        Path(target).write_text(json.dumps(rows))
