"""DeformConv and its gradients, against grid sampling and products in PyTorch, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channels_last import ChannelsLast
from guards import run_guarded
from harness import Case

from nbcnn.errors import ModelError

torch = pytest.importorskip("torch", reason="PyTorch is not installed: DeformConv is not compared with it")

RNG = np.random.default_rng(12)

# name -> x shape, w shape, attributes, whether it has a mask
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], bool]] = {
    "plain": ((2, 5, 6, 7), (6, 5, 3, 3), {"pads": [1, 1, 1, 1]}, False),
    "mask": ((1, 17, 5, 5), (33, 17, 3, 2), {"strides": [2, 1], "pads": [1, 0, 1, 1]}, True),
    "groups": ((2, 12, 6, 5), (8, 6, 2, 2), {"group": 2, "offset_group": 3, "dilations": [2, 1]}, True),
    "depthwise": ((1, 6, 5, 5), (6, 1, 3, 3), {"group": 6, "offset_group": 2, "pads": [1, 1, 1, 1]}, True),
    "3-D": ((1, 3, 4, 3, 4), (4, 3, 2, 2, 2), {}, True),
}


def arrays(name: str) -> list[np.ndarray | None]:
    x, w, attrs, masked = CASES[name]
    rank, parts = len(x) - 2, attrs.get("offset_group", 1)
    pads, strides = attrs.get("pads", [0] * 2 * rank), attrs.get("strides", [1] * rank)
    spans = [(k - 1) * d + 1 for k, d in zip(w[2:], attrs.get("dilations", [1] * rank), strict=True)]
    room = [n + pads[i] + pads[rank + i] - s for i, (n, s) in enumerate(zip(x[2:], spans, strict=True))]
    out = [r // s + 1 for r, s in zip(room, strides, strict=True)]
    taps = int(np.prod(w[2:]))
    shapes = [x, w, (x[0], parts * taps * rank, *out), (w[0],), (x[0], parts * taps, *out)]
    found: list[np.ndarray | None] = [RNG.standard_normal(s) for s in shapes]
    if not masked:
        found[4] = None
    return found


def expected(given: list[Any], attrs: dict[str, Any]) -> Any:
    x, w, offset, bias, mask = given
    images, channels, *size = x.shape
    rank, kernel, out = len(size), w.shape[2:], offset.shape[2:]
    group, parts = attrs.get("group", 1), attrs.get("offset_group", 1)
    strides, spread = attrs.get("strides", [1] * rank), attrs.get("dilations", [1] * rank)
    pads = attrs.get("pads", [0] * rank)
    moves = offset.reshape(images, parts, -1, rank, *out)
    y = bias.reshape(1, -1, *[1] * rank)
    for number, tap in enumerate(np.ndindex(*kernel)):
        met = []
        for part in range(parts):
            places = []
            for axis in range(rank):
                base = torch.arange(out[axis]) * strides[axis] + tap[axis] * spread[axis] - pads[axis]
                place = moves[:, part, number, axis] + base.reshape([-1 if a == axis else 1 for a in range(rank)])
                places.append((2 * place + 1) / size[axis] - 1)
            deep = channels // parts
            part_x = x[:, part * deep : (part + 1) * deep]
            found = torch.nn.functional.grid_sample(part_x, torch.stack(places[::-1], -1), align_corners=False)
            if mask is not None:
                found = found * mask[:, part * int(np.prod(kernel)) + number][:, None]
            met.append(found)
        columns = torch.cat(met, 1).reshape(images, group, channels // group, -1)
        taps = w[(..., *tap)].reshape(group, w.shape[0] // group, -1)
        y = y + (taps @ columns).reshape(images, w.shape[0], *out)
    return y


@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_forward_and_gradients(name: str, dtype: Any, case: type[Case]) -> None:
    given, attrs = arrays(name), CASES[name][2]
    given = [a if a is None else a.astype(dtype) for a in given]
    tensors = [a if a is None else torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in given]
    want = expected(tensors, attrs)
    dy = RNG.standard_normal(want.shape).astype(dtype)
    want.backward(torch.tensor(dy, dtype=torch.float64))
    made = case("DeformConv", given, attrs, weights=(1, 3), opset=19, dtype=dtype)
    wanted = tuple(k for k, a in enumerate(given) if a is not None)
    (y,), grads = made.run_training([dy], wanted)
    found = [want.detach(), *(tensors[k].grad for k in wanted)]
    for got, tensor in zip((y, *grads), found, strict=True):
        tolerance = (1e-4 if dtype is np.float32 else 1e-10) * max(1.0, float(tensor.abs().max()))
        np.testing.assert_allclose(got, tensor.numpy(), rtol=0, atol=tolerance)


def test_nothing_outside_the_arrays_is_touched() -> None:
    given, attrs = [None if a is None else a.astype(np.float32) for a in arrays("groups")], CASES["groups"][2]
    case = Case("DeformConv", given, attrs, weights=(1, 3), opset=19)
    plan = case.training_plan([RNG.standard_normal(case.run()[0].shape)], (0, 1, 2, 3, 4))
    found = run_guarded(plan)
    case.execute(plan)
    for name, array in found.items():
        np.testing.assert_array_equal(array, plan.array(name))


def test_what_does_not_fit() -> None:
    x, w, offset = np.zeros((1, 2, 4, 4)), np.zeros((3, 2, 3, 3)), np.zeros((1, 18, 2, 2))
    with pytest.raises(ModelError, match=r"DeformConv 'node': offset .* does not fit offset_group=1"):
        Case("DeformConv", [x, w, offset[:, :9]], weights=(1,), opset=19).run()
    with pytest.raises(ModelError, match="does not fit weights"):
        Case("DeformConv", [x, w[:, :1], offset], weights=(1,), opset=19).run()
    with pytest.raises(ModelError, match=r"mask .* does not fit"):
        Case("DeformConv", [x, w, offset, None, offset], weights=(1,), opset=19).run()
