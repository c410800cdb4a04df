"""Changes of memory order on a GPU: through tiles, and where there are too few channels for that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nbcnn.devices import find_device


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
@pytest.mark.parametrize("shape", [(1, 1, 5), (2, 3, 50), (2, 50, 3), (3, 8, 8), (2, 17, 33), (1, 65, 9)])
def test_matrices(shape: tuple[int, int, int], dtype: Any) -> None:
    from nbcnn.kernels.cuda.layout import transpose_matrices

    gpu = find_device("cuda")
    x = np.random.default_rng(0).integers(-99, 99, shape).astype(dtype)
    y = gpu.put(np.zeros(x.size, dtype))
    transpose_matrices(gpu.put(x.reshape(-1)), y, shape)
    np.testing.assert_array_equal(gpu.read(y).reshape(shape[0], shape[2], shape[1]), x.transpose(0, 2, 1))
