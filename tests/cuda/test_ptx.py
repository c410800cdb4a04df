"""Every kernel compiles to PTX for compute capabilities 8.0 and 9.0, with no GPU, as all other tests here call it.

Where NVIDIA's assembler is installed, it says that the products spill no registers.
"""

from __future__ import annotations

import os
import shutil

import pytest

from bench.ptx import Compiled, assemble, compile_kernels, problem
from nbcnn.kernels.contract import CPU_ONLY, KERNELS

ELSEWHERE = {"conv", "conv_grad", "layout", "pointwise", "pointwise_grad"}
"""Families whose launchers start device code of other files."""
SHARED = {"grad_plain", "grad_tensor", "moments", "plain_conv", "tensor_conv"}
"""Files of such device code."""
PRODUCTS = {
    *("batch_norm_quads", "depthwise", "grad_plain", "grad_tensor", "integer", "integer_depthwise", "matmul"),
    *("moments", "plain_conv", "tensor_conv", "vector"),
}
"""Files whose kernels must keep their sums in registers."""

if os.environ.get("NBCNN_CUDA") != "simulator":
    pytest.skip("compiling alone is checked beside the simulator", allow_module_level=True)


@pytest.fixture(scope="module")
def compiled() -> list[Compiled]:
    """Everything that the other tests launch."""
    reason = problem()
    if reason:
        pytest.skip(f"kernels cannot be compiled here: {reason}")
    return compile_kernels()


def test_every_family_compiles(compiled: list[Compiled]) -> None:
    families = {family for name, family in KERNELS.items() if name not in CPU_ONLY} - ELSEWHERE | SHARED
    for capability in ("8.0", "9.0"):
        assert {kernel.family for kernel in compiled if kernel.capability == capability} >= families


def test_products_stay_in_registers(compiled: list[Compiled]) -> None:
    for kernel in compiled:
        if kernel.family in PRODUCTS:
            assert ".local" not in kernel.ptx, f"{kernel.kernel}{kernel.signature} keeps something in memory of its own"


def test_the_assembler_spills_nothing(compiled: list[Compiled]) -> None:
    if shutil.which("ptxas") is None:
        pytest.skip("ptxas is not installed")
    for kernel in assemble(kernel for kernel in compiled if kernel.family in PRODUCTS):
        assert kernel.spilled == 0, kernel
