"""With NBCNN_TEST_DEVICE=cuda, cases run on a GPU; what can only be tested on the processor is skipped, and says so."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from harness import DEVICE

from nbcnn.errors import UnsupportedError

ON_A_PROCESSOR = {
    "test_batch_lanes.py": "pictures in lanes are a form of the processor's",
    "test_batch_norm.py::test_bounds_of_clip": "builds a plan of the processor",
    "test_batch_norm.py::test_run_leaves_the_statistics_alone": "builds a plan of the processor",
    "test_batch_norm.py::test_trainer_moves_running_statistics": "builds a plan of the processor",
    "test_batch_toom.py": "pictures in lanes are a form of the processor's",
    "test_inverted_residual.py": "a block as one kernel is a form of the processor's",
    "test_planes.py": "convolutions of planes are a form of the processor's",
    "test_winograd.py": "Winograd's algorithms are the processor's",
}
"""Part of a test's id -> why it has nothing to say of a GPU."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if DEVICE != "cpu":
        for part, reason in ON_A_PROCESSOR.items():
            if part in item.nodeid:
                pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """What the GPU has no kernels for (integers, for the most part) is an error with a name, and no wrong result."""
    try:
        return (yield)
    except UnsupportedError as error:
        if DEVICE != "cpu" and "has no kernels for" in str(error):
            pytest.skip(str(error).partition("; ")[0])
        raise
