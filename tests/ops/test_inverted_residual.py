"""Blocks of MobileNet in one kernel, against the float64 oracle and between guard bands."""

from __future__ import annotations

import numpy as np
import pytest
from guards import run_guarded
from mobile import BLOCKS, BlockCase, Shape

import nbcnn
from nbcnn.ops.inverted_residual import Block
from nbcnn.passes import blocks
from nbcnn.report.arithmetic import work

TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}


@pytest.fixture(autouse=True)
def _all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones too."""
    monkeypatch.setattr(blocks, "CACHE", 0)


def ops(case: BlockCase) -> list[str]:
    return [node.op for node in case.plan().graph.nodes if node.op in ("Conv", "InvertedResidual")]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", BLOCKS)
def test_against_the_oracle(name: str, dtype: type) -> None:
    case = BlockCase(BLOCKS[name], dtype)
    assert ops(case) == ["InvertedResidual"]
    want = case.want()
    np.testing.assert_allclose(case.run()[0], want, rtol=0, atol=TOLERANCE[dtype] * max(1, np.abs(want).max()))


@pytest.mark.parametrize("name", BLOCKS)
def test_nothing_outside_the_arrays_is_touched(name: str) -> None:
    case = BlockCase(BLOCKS[name])
    plan = case.plan()
    case.execute(plan)
    for value, array in run_guarded(plan).items():
        np.testing.assert_array_equal(array, plan.array(value))


@pytest.mark.parametrize("name", ["with a residual", "stride 2", "no expansion"])
def test_the_same_bit_for_bit_as_by_convolutions_apart(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = BlockCase(BLOCKS[name])
    fused = case.run()[0]
    monkeypatch.setattr(blocks, "CACHE", 1 << 40)
    assert "InvertedResidual" not in ops(case)
    np.testing.assert_array_equal(fused, case.run()[0])


@pytest.mark.parametrize("images", [1, 3])
def test_results_do_not_depend_on_threads_or_bands(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = BlockCase(Shape((images, 6, 49, 10), 20, 6, residual=True))
    found = []
    for threads, lines in ((1, 49), (2, 49), (2, 25), (2, 7)):
        nbcnn.set_num_threads(threads)
        monkeypatch.setattr(Block, "lines_of_bands", lambda self, threads, lines=lines: lines)
        found.append(case.run()[0])
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_bands_give_threads_equal_shares() -> None:
    def lines(images: int, height: int, threads: int) -> int:
        return Block(images, (height, 8, 4), (height, 8, 4), 16, 1, True, 4).lines_of_bands(threads)

    assert lines(1, 56, 1) == 56
    assert lines(1, 56, 2) == 28
    assert lines(3, 56, 2) == 28
    assert lines(4, 56, 2) == 56
    assert lines(1, 5, 8) == 5


def test_nan_stays_nan() -> None:
    case = BlockCase(BLOCKS["stride 2"])
    x = case.inputs[0]
    assert x is not None
    x[0, 3, 8, 5] = np.nan
    assert np.isnan(case.run()[0][0, :, 4, 3]).all()


def test_what_a_report_counts() -> None:
    """2 pictures of 13x9, 24 to 40 to 24 channels, and a residual."""
    graph = BlockCase(BLOCKS["with a residual"]).plan().graph
    (node,) = [n for n in graph.nodes if n.op == "InvertedResidual"]
    pixels, products = 2 * 13 * 9, 24 * 40 + 40 * 9 + 40 * 24
    found = work(node, graph.values)
    assert found.flops == 2 * pixels * products
    assert found.bytes == 4 * (2 * pixels * 24 + products + 40 + 40 + 24)
    assert node.name == "project"
