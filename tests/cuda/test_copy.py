"""Copies and fills on a GPU: what Transpose, Concat, Slice, Expand and Pad come to."""

from __future__ import annotations

import numpy as np
import pytest
from harness import Case


@pytest.mark.parametrize("perm", [(1, 0, 2), (2, 1, 0), (0, 2, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transpose(perm: tuple[int, ...], dtype: type) -> None:
    x = np.arange(2 * 5 * 7).reshape(2, 5, 7).astype(dtype)
    (y,) = Case("Transpose", [x], {"perm": perm}, device="cuda").run()
    np.testing.assert_array_equal(y, x.transpose(perm))


def test_concat_and_its_gradient() -> None:
    a, b = (np.random.default_rng(n).standard_normal((2, n, 3)) for n in (1, 4))
    dy = np.random.default_rng(0).standard_normal((2, 5, 3))
    case = Case("Concat", [a, b], {"axis": 1}, dtype=np.float64, device="cuda")
    (y,), (da, db) = case.run_training([dy], wanted=(0, 1))
    np.testing.assert_array_equal(y, np.concatenate([a, b], 1))
    np.testing.assert_array_equal(da, dy[:, :1])
    np.testing.assert_array_equal(db, dy[:, 1:])


def test_pad() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    (y,) = Case("Pad", [x, np.array([0, 0, 1, 2, 0, 0, 0, 1]), np.float32(7)], weights=(1, 2), device="cuda").run()
    np.testing.assert_array_equal(y, np.pad(x, [(0, 0), (0, 0), (1, 0), (2, 1)], constant_values=7))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("perm", [(0, 3, 1, 2), (3, 1, 2, 0), (2, 3, 0, 1), (1, 3, 0, 2), (0, 2, 1, 3)])
@pytest.mark.parametrize("shape", [(2, 3, 9, 10), (9, 2, 3, 17), (1, 12, 5, 11)])
def test_transpose_of_pictures(shape: tuple[int, ...], perm: tuple[int, ...], dtype: type) -> None:
    """Through tiles where both of the axes that are contiguous on a side are long enough."""
    x = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    (y,) = Case("Transpose", [x], {"perm": perm}, dtype=dtype, device="cuda").run()
    np.testing.assert_array_equal(y, x.transpose(perm))


@pytest.mark.parametrize("step", [1, 2, -1, -3])
def test_slice_and_its_gradient(step: int) -> None:
    x = np.random.default_rng(1).standard_normal((3, 20, 9))
    start, end = (1, 17) if step > 0 else (17, 1)
    limits = [np.array([value]) for value in (start, end, 1, step)]
    case = Case("Slice", [x, *limits], weights=(1, 2, 3, 4), dtype=np.float64, device="cuda")
    wanted = x[:, start:end:step]
    dy = np.random.default_rng(2).standard_normal(wanted.shape)
    (y,), (dx,) = case.run_training([dy])
    np.testing.assert_array_equal(y, wanted)
    full = np.zeros(x.shape)
    full[:, start:end:step] = dy
    np.testing.assert_array_equal(dx, full)


@pytest.mark.parametrize("shape", [(3, 1, 5), (1, 4, 1), (3, 4, 5)])
def test_expand(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    (y,) = Case("Expand", [x, np.array([2, 3, 4, 5])], weights=(1,), device="cuda").run()
    np.testing.assert_array_equal(y, np.broadcast_to(x, (2, 3, 4, 5)))


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int32, np.int64])
def test_numbers_of_any_type(dtype: type) -> None:
    x = np.random.default_rng(4).integers(0, 2, (3, 9, 10)).astype(dtype)
    (y,) = Case("Transpose", [x], {"perm": (0, 2, 1)}, device="cuda").run()
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, x.transpose(0, 2, 1))
