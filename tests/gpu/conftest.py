"""Whole networks on a real GPU, which `make test-gpu` runs. Elsewhere they are skipped, and say so.

NBCNN_TEST_GPU=simulator runs them on tiny networks in Numba's simulator instead, to try the tests themselves.
"""

from __future__ import annotations

import os

import pytest

SIMULATED = os.environ.get("NBCNN_TEST_GPU") == "simulator"
if SIMULATED:
    os.environ["NBCNN_CUDA"] = "simulator"


@pytest.fixture(autouse=True, scope="session")
def gpu() -> None:
    """Skips where there is no GPU, or where these tests were not asked to use it."""
    from nbcnn.devices import find_device
    from nbcnn.errors import DeviceError

    if not SIMULATED and os.environ.get("NBCNN_CUDA") != "gpu":
        pytest.skip("needs a GPU, and NBCNN_CUDA=gpu to use it: make test-gpu")
    try:
        find_device("cuda")
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture
def real_gpu() -> None:
    """For what the simulator does not have: memory that ends, events, graphs."""
    if SIMULATED:
        pytest.skip("Numba's simulator has no GPU memory")
