"""MaxUnpool and its gradient, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channels_last import ChannelsLast
from harness import Case

from nbcnn.errors import ModelError

torch = pytest.importorskip("torch", reason="PyTorch is not installed: MaxUnpool is not compared with it")

RNG = np.random.default_rng(15)
UNPOOL = {1: torch.nn.functional.max_unpool1d, 2: torch.nn.functional.max_unpool2d, 3: torch.nn.functional.max_unpool3d}


def pooled(shape: tuple[int, ...]) -> tuple[Any, np.ndarray, dict[str, Any]]:
    """What torch's pool of a picture gives, and the indices as ONNX counts them."""
    rank = len(shape) - 2
    pool = (torch.nn.functional.max_pool1d, torch.nn.functional.max_pool2d, torch.nn.functional.max_pool3d)[rank - 1]
    y, where = pool(torch.tensor(RNG.standard_normal(shape)), 2, return_indices=True)
    planes = np.arange(shape[0] * shape[1]).reshape(*shape[:2], *[1] * rank) * int(np.prod(shape[2:]))
    return y, where.numpy() + planes, {"kernel_shape": [2] * rank, "strides": [2] * rank}


@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 5, 6, 4), (1, 1, 2, 2), (1, 3, 4, 2, 6)])
def test_as_torch(shape: tuple[int, ...], dtype: Any, case: type[Case]) -> None:
    x, indices, attrs = pooled(shape)
    x = x.to(torch.float32 if dtype is np.float32 else torch.float64).requires_grad_()
    within = torch.tensor(indices % int(np.prod(shape[2:])))
    want = UNPOOL[len(shape) - 2](x, within, 2)
    dy = RNG.standard_normal(want.shape).astype(dtype)
    want.backward(torch.tensor(dy))
    made = case("MaxUnpool", [x.detach().numpy(), indices], attrs, opset=11, dtype=dtype)
    (y,), (dx,) = made.run_training([dy])
    np.testing.assert_array_equal(y, want.detach().numpy())
    np.testing.assert_array_equal(dx, x.grad.numpy())


def test_a_larger_output() -> None:
    """Indices count the elements of the output that the attributes imply; the rest is zero."""
    x, indices, attrs = pooled((2, 3, 4, 6))
    small = UNPOOL[2](x, torch.tensor(indices % 24), 2).numpy()
    dy = RNG.standard_normal((2, 3, 5, 8))
    given = [x.numpy(), indices, np.array([2, 3, 5, 8])]
    case = Case("MaxUnpool", given, attrs, weights=(2,), opset=11, dtype=np.float64)
    (y,), (dx,) = case.run_training([dy])
    np.testing.assert_array_equal(y, np.pad(small, [(0, 0), (0, 0), (0, 1), (0, 2)]))
    np.testing.assert_array_equal(dx, dy[:, :, :4, :6].reshape(-1)[indices])


def test_what_does_not_fit() -> None:
    x, indices, attrs = pooled((1, 1, 4, 4))
    x = x.numpy()
    with pytest.raises(ModelError, match=r"MaxUnpool 'node': indices from .* do not lie in 0..15"):
        Case("MaxUnpool", [x, indices + 16], attrs, opset=11, dtype=np.float64, device="cpu").run()
    with pytest.raises(ModelError, match=r"output_shape \(1, 1, 3, 4\) is smaller than"):
        Case("MaxUnpool", [x, indices, np.array([1, 1, 3, 4])], attrs, weights=(2,), opset=11).run()
