"""Floats to integers and back, against onnx's reference evaluator, which is bit for bit what the standard says."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from harness import Case
from onnx import helper
from onnx.reference import ReferenceEvaluator

RNG = np.random.default_rng(7)


def reference(case: Case) -> list[np.ndarray]:
    """What onnx itself computes for a case's node."""
    names = [f"i{k}" if a is not None else "" for k, a in enumerate(case.inputs)]
    outputs = [f"o{k}" for k in range(case.outputs)]
    node = helper.make_node(case.op, names, outputs, **case.attrs)
    kinds = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in zip(names, case.inputs, strict=True)
        if a is not None
    ]
    graph = helper.make_graph([node], "g", kinds, [onnx.ValueInfoProto(name=n) for n in outputs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)])
    feeds = {n: a for n, a in zip(names, case.inputs, strict=True) if a is not None}
    return ReferenceEvaluator(model).run(None, feeds)


def check(case: Case) -> None:
    for found, wanted in zip(case.run(), reference(case), strict=True):
        assert found.dtype == np.asarray(wanted).dtype or found.dtype.kind == "f"
        if found.dtype.kind == "f":
            np.testing.assert_allclose(found, np.asarray(wanted, found.dtype), rtol=1e-6)
        else:
            np.testing.assert_array_equal(found, wanted)


def numbers(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Numbers among which there are many halves, and some out of range."""
    return (RNG.integers(-700, 700, shape) / 4).astype(dtype)


@pytest.mark.parametrize("shape", [(1,), (2, 3), (3, 1, 1, 1), (2, 5, 3, 4), (1, 17, 2, 2), (5000,), (2, 3, 33)])
@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16])
def test_one_scale(shape: tuple[int, ...], kind: type) -> None:
    zero = np.array(3, kind)
    x = numbers(shape, np.float32)
    check(Case("QuantizeLinear", [x, np.float32(0.5), zero], opset=21))
    info = np.iinfo(kind)
    q = RNG.integers(info.min, info.max + 1, shape).astype(kind)
    check(Case("DequantizeLinear", [q, np.float32(0.25), zero], opset=21))


def test_float64() -> None:
    x, scale = numbers((2, 5, 3), np.float64), np.array([0.5, 1, 2, 0.3, 0.1])
    found = Case("QuantizeLinear", [x, scale, np.zeros(5, np.int8)], dtype=np.float64).run()[0]
    np.testing.assert_array_equal(found, np.clip(np.rint(x / scale[:, None]), -128, 127))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 1, 4, 3), (4, 33), (1, 17, 5, 1)])
def test_a_scale_for_each_channel(shape: tuple[int, ...], axis: int) -> None:
    count = shape[axis]
    scale = RNG.uniform(0.1, 1, count).astype(np.float32)
    zero = RNG.integers(-20, 20, count).astype(np.int8)
    check(Case("QuantizeLinear", [numbers(shape, np.float32), scale, zero], {"axis": axis}, opset=19))
    q = RNG.integers(-128, 128, shape).astype(np.int8)
    check(Case("DequantizeLinear", [q, scale, zero], {"axis": axis}, opset=19))


@pytest.mark.parametrize(
    ("shape", "axis", "block"), [((4, 6), 0, 2), ((4, 6), 1, 3), ((2, 6, 5), 1, 2), ((3, 8), 1, 8)]
)
@pytest.mark.parametrize("kind", [np.uint8, np.int16, ml_dtypes.int4, ml_dtypes.uint4])
def test_a_scale_for_each_block(shape: tuple[int, ...], axis: int, block: int, kind: type) -> None:
    blocks = tuple(-(-n // block) if i == axis else n for i, n in enumerate(shape))
    scale = RNG.uniform(0.1, 1, blocks).astype(np.float32)
    zero = RNG.integers(0, 4, blocks).astype(kind)
    attrs = {"axis": axis, "block_size": block}
    check(Case("QuantizeLinear", [numbers(shape, np.float32), scale, zero], attrs, opset=21))
    q = RNG.integers(0, 7, shape).astype(kind)
    check(Case("DequantizeLinear", [q, scale, zero], attrs, opset=21))


@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("kind", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fnuz])
def test_eight_bit_floats(kind: type, saturate: int) -> None:
    x = np.array([0, 1, -3.3, 500, -1e6, np.inf, np.nan], np.float32)
    case = Case("QuantizeLinear", [x, np.float32(1), np.zeros(1, kind)[0]], {"saturate": saturate}, opset=19)
    (found,), (wanted,) = case.run(), reference(case)
    np.testing.assert_array_equal(found.astype(np.float32), np.asarray(wanted).astype(np.float32))


@pytest.mark.parametrize("shape", [(4, 3), (1,), (2, 3, 5, 7)])
@pytest.mark.parametrize("shift", [0, 300, -300])
def test_dynamic(shape: tuple[int, ...], shift: int) -> None:
    check(Case("DynamicQuantizeLinear", [numbers(shape, np.float32) + np.float32(shift)], outputs=3))


def test_not_a_number_is_no_crash() -> None:
    x = np.array([np.nan, np.inf, -np.inf], np.float32)
    found = Case("QuantizeLinear", [x, np.float32(1), np.uint8(5)]).run()[0]
    np.testing.assert_array_equal(found, [0, 255, 0])
