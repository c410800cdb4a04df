"""Col2Im and its gradient, against PyTorch's fold and unfold and onnx's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from guards import run_guarded
from harness import Case
from onnx import helper
from onnx.reference import ReferenceEvaluator

from nbcnn.errors import ModelError

RNG = np.random.default_rng(14)

# name -> columns' shape, image, block, attributes
CASES: dict[str, tuple[tuple[int, ...], list[int], list[int], dict[str, Any]]] = {
    "plain": ((2, 12, 20), [5, 6], [2, 2], {}),
    "all": (
        (1, 18, 12),
        [6, 9],
        [3, 2],
        {"strides": [2, 3], "pads": [2, 1, 2, 1], "dilations": [1, 2]},
    ),
    "pads beyond a block": ((1, 4, 36), [2, 2], [2, 2], {"pads": [2, 2, 3, 3]}),
    "1-D": ((2, 6, 4), [9], [3], {"strides": [2]}),
    "3-D": ((1, 24, 18), [3, 2, 4], [2, 1, 3], {"pads": [0, 0, 1, 0, 1, 0]}),
}


def run(name: str, dtype: Any) -> tuple[Case, np.ndarray]:
    shape, image, block, attrs = CASES[name]
    x = RNG.standard_normal(shape).astype(dtype)
    return Case("Col2Im", [x, np.array(image), np.array(block)], attrs, weights=(1, 2), opset=18, dtype=dtype), x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["plain", "all", "pads beyond a block"])
def test_as_torch(name: str, dtype: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: Col2Im is not compared with it")
    _, image, block, attrs = CASES[name]
    case, x = run(name, dtype)
    if name == "pads beyond a block":  # PyTorch has even pads only
        attrs = attrs | {"pads": [3, 3, 3, 3]}
        case.inputs[0] = x = RNG.standard_normal((1, 4, 49)).astype(dtype)
        case.attrs = attrs
    form = {
        "dilation": attrs.get("dilations", 1),
        "padding": attrs.get("pads", [0])[:2],
        "stride": attrs.get("strides", 1),
    }
    form["padding"] = form["padding"] if len(form["padding"]) == 2 else 0
    want = torch.nn.functional.fold(torch.tensor(x), image, block, **form)
    dy = RNG.standard_normal(want.shape).astype(dtype)
    (y,), (dx,) = case.run_training([dy])
    np.testing.assert_allclose(y, want.numpy(), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(dx, torch.nn.functional.unfold(torch.tensor(dy), block, **form).numpy())


@pytest.mark.parametrize("name", CASES)
def test_as_onnx(name: str) -> None:
    case, x = run(name, np.float32)
    _, image, block, attrs = CASES[name]
    node = helper.make_node("Col2Im", ["x", "i", "b"], ["y"], **attrs)
    given = {"x": x, "i": np.array(image), "b": np.array(block)}
    want = ReferenceEvaluator(node).run(None, given)[0]
    (y,) = case.run()
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-6)
    dy = RNG.standard_normal(y.shape).astype(np.float32)
    _, (dx,) = case.run_training([dy])
    np.testing.assert_allclose((dx * x).sum(), (dy * y).sum(), rtol=1e-4)  # the transposed of a linear map


def test_nothing_outside_the_arrays_is_touched() -> None:
    for name in CASES:
        case, _ = run(name, np.float32)
        plan = case.training_plan([RNG.standard_normal(case.run()[0].shape)])
        found = run_guarded(plan)
        case.execute(plan)
        for value, array in found.items():
            np.testing.assert_array_equal(array, plan.array(value))


def test_what_does_not_fit() -> None:
    case, x = run("plain", np.float32)
    case.inputs[0] = x[:, :, :-1]
    with pytest.raises(ModelError, match=r"an image of \[5, 6\] has 20 blocks of \[2, 2\]"):
        case.run()
