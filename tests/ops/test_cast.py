"""Cast and CastLike: rounding to narrower floats against ml_dtypes, all pairs of types, strings."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from channels_last import ChannelsLast
from harness import Case
from onnx import TensorProto, helper, numpy_helper

from nbcnn import load
from nbcnn.errors import ModelError, UnsupportedError

RNG = np.random.default_rng(4)
FLOATS = {"float16": 10, "bfloat16": 16, "float32": 1, "float64": 11}
EVERY = [
    *("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL", "INT2", "UINT2", "INT4", "UINT4", "INT8", "UINT8", "INT16"),
    *("UINT16", "INT32", "UINT32", "INT64", "UINT64", "FLOAT4E2M1", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2"),
    *("FLOAT8E5M2FNUZ", "FLOAT8E8M0", "STRING"),
]
EIGHT_BITS = ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"]


def as_bits(x: np.ndarray) -> np.ndarray:
    """Bit patterns, with one for all NaN."""
    return np.where(np.isnan(x), np.nan, x).view(f"u{x.itemsize}")


def awkward(dtype: Any) -> np.ndarray:
    """Numbers of every size; those of float16 and bfloat16, and the places half way between them, and next to these."""
    random = RNG.standard_normal(5000) * 2.0 ** RNG.integers(-160, 140, 5000)
    patterns = np.arange(0, 2**16, 7, dtype=np.uint16)
    with np.errstate(all="ignore"):
        found = [random.astype(np.float32).astype(dtype)]
        for narrow in (np.dtype("float16"), np.dtype("bfloat16")):
            numbers = patterns.view(narrow).astype(dtype)
            half = (numbers + (patterns + 1).astype(np.uint16).view(narrow).astype(dtype)) / 2
            found += [numbers, half, np.nextafter(half, np.inf), np.nextafter(half, -np.inf)]
        special = [0.0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.99, 65520, 65535, 3.4e38, 3.39e38]
        return np.concatenate([*found, np.array(special).astype(dtype)]).astype(dtype)


def to_odd(x: np.ndarray) -> np.ndarray:
    """float32 whose last bit says whether anything was cut off: ml_dtypes goes through it, and would round twice."""
    single = x.astype(np.float32)
    cut = np.where(abs(single.astype(x.dtype)) > abs(x), np.nextafter(single, np.float32(0)), single)
    odd = (cut.view(np.uint32) | 1).view(np.float32)
    return np.where((cut == x) | np.isnan(x) | np.isinf(cut), cut, odd)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("to", ["float16", "bfloat16"])
def test_rounding_to_narrower_floats(to: str, dtype: Any) -> None:
    x = awkward(dtype)
    (y,) = Case("Cast", [x], {"to": FLOATS[to]}, dtype=dtype).run()
    assert y.dtype == dtype
    with np.errstate(all="ignore"):
        wanted = (to_odd(x) if to == "bfloat16" else x).astype(to).astype(dtype)
    np.testing.assert_array_equal(as_bits(y), as_bits(wanted))


def test_float64_is_rounded_to_float32_where_the_file_has_both() -> None:
    x = RNG.standard_normal(100) * 10.0 ** RNG.integers(-45, 39, 100)
    (y,) = Case("Cast", [x], {"to": 1}, dtype=np.float64).run()
    np.testing.assert_array_equal(y, x.astype(np.float32).astype(np.float64))


@pytest.mark.parametrize(("source", "to"), [("float16", "float32"), ("bfloat16", "float64"), ("float32", "float64")])
def test_a_wider_type_changes_nothing(source: str, to: str) -> None:
    x = RNG.standard_normal(50).astype(source)
    case = Case("Cast", [x], {"to": FLOATS[to]})
    np.testing.assert_array_equal(case.run()[0], x.astype(np.float32))
    assert [n.op for n in case.plan().graph.nodes] in ([], ["Identity"])


@pytest.mark.parametrize("kind", [Case, ChannelsLast])
def test_rounding_lets_the_gradient_pass(kind: type[Case]) -> None:
    x, dy = RNG.standard_normal((2, 2, 3, 5, 4)).astype(np.float32)
    (y,), (dx,) = kind("Cast", [x], {"to": FLOATS["float16"]}).run_training([dy])
    np.testing.assert_allclose(y, x.astype(np.float16), rtol=1e-6)
    np.testing.assert_array_equal(dx, dy)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.bool_])
def test_integers_become_floats(kind: Any, dtype: Any) -> None:
    x = RNG.integers(0, 2 if kind is np.bool_ else 256, (2, 3, 5, 7)).astype(kind)
    (y,) = Case("Cast", [x], {"to": 1}, dtype=dtype).run()
    np.testing.assert_array_equal(y, x.astype(dtype))
    assert y.dtype == dtype


def test_integers_become_halves() -> None:
    (y,) = Case("Cast", [np.array([2048, 2049, 2051, 70000])], {"to": FLOATS["float16"]}).run()
    np.testing.assert_array_equal(y, np.array([2048, 2048, 2052, np.inf], np.float32))


def test_constants_are_folded() -> None:
    case = Case("Cast", [np.array([3, 0, -2])], {"to": 1}, weights=(0,))
    np.testing.assert_array_equal(case.run()[0], np.array([3, 0, -2], np.float32))
    assert not case.plan().graph.nodes


@pytest.mark.parametrize("to", EIGHT_BITS)
def test_floats_of_a_byte(to: str) -> None:
    """By the two tables of the definition."""
    number = helper.np_dtype_to_tensor_dtype(np.dtype(to))
    largest = float(ml_dtypes.finfo(to).max)
    x = np.array([0, -0.0, 1.07, -3.3, largest, 1e6, -1e6, np.inf, -np.inf, np.nan], np.float32)
    (y,) = Case("Cast", [x], {"to": number}, opset=19).run()
    assert y.dtype == to
    np.testing.assert_array_equal(y.astype(np.float32)[4:], [largest, largest, -largest, largest, -largest, np.nan])
    np.testing.assert_array_equal(y[:4], x[:4].astype(to))
    (y,) = Case("Cast", [x], {"to": number, "saturate": 0}, opset=19).run()
    beyond = np.array([np.inf, -np.inf]) if to == "float8_e5m2" else np.full(2, np.nan)
    np.testing.assert_array_equal(y.astype(np.float32)[4:], [largest, *beyond, *beyond, np.nan])


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("up", [1, 2, 2, 2, 4, 0.5]), ("down", [1, 1, 1, 1, 2, 0.25]), ("nearest", [1, 1, 2, 2, 2, 0.25])],
)
def test_powers_of_two(mode: str, wanted: list[float]) -> None:
    x = np.array([1, 1.25, 1.5, 1.75, 2.1, 0.3], np.float32)
    (y,) = Case("Cast", [x], {"to": 24, "round_mode": mode}, opset=24).run()
    np.testing.assert_array_equal(y.astype(np.float32), wanted)


def network(*nodes: Any, x: int, y: int, shape: tuple[Any, ...] = ("N",)) -> Any:
    """A network with input x and output y of these element types, loaded."""
    ports = [helper.make_tensor_value_info(name, kind, shape) for name, kind in (("x", x), ("y", y))]
    graph = helper.make_graph(list(nodes), "casts", ports[:1], ports[1:])
    return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=11))


@pytest.mark.parametrize("source", EVERY)
def test_every_pair_of_types(source: str) -> None:
    """0 and 1, which all types have (float8_e8m0 only the latter)."""
    for to in EVERY:
        cast_small_numbers(source, to)


def cast_small_numbers(source: str, to: str) -> None:
    first, second = TensorProto.DataType.Value(source), TensorProto.DataType.Value(to)
    some = [1, 1] if "FLOAT8E8M0" in (source, to) else [0, 1, 1]
    kinds = [np.dtype(helper.tensor_dtype_to_np_dtype(kind)) for kind in (first, second)]
    x = np.array([str(n) for n in some], object) if source == "STRING" else np.array(some).astype(kinds[0])
    (y,) = network(helper.make_node("Cast", ["x"], ["y"], to=second), x=first, y=second).run(None, {"x": x})
    assert y.dtype == kinds[1]
    numbers = [text in ("True", "1", "1.0") for text in y] if to == "STRING" else y.astype(np.float32).tolist()
    assert numbers == some


def test_strings() -> None:
    texts = np.array(["0.1", "1e-5", "+INF", "-inf", "nan", "100", "-3.5E2"], object)
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    (y,) = network(cast, x=TensorProto.STRING, y=TensorProto.FLOAT).run(None, {"x": texts})
    np.testing.assert_array_equal(y, np.array([0.1, 1e-5, np.inf, -np.inf, np.nan, 100, -350], np.float32))
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.STRING)
    for kind, number in ((np.float32, TensorProto.FLOAT), (np.float16, TensorProto.FLOAT16)):
        (back,) = network(cast, x=number, y=TensorProto.STRING).run(None, {"x": y.astype(kind)})
        np.testing.assert_array_equal(np.array([float(text) for text in back]).astype(kind), y.astype(kind))
        assert back[0] == "0.1"


def test_strings_that_are_computed() -> None:
    """The run computes what the strings are made of first."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["two"]),
        helper.make_node("Cast", ["two"], ["text"], to=TensorProto.STRING),
        helper.make_node("Cast", ["text"], ["y"], to=TensorProto.INT32),
    ]
    (y,) = network(*nodes, x=TensorProto.FLOAT, y=TensorProto.INT32).run(None, {"x": np.array([1.5, -4], np.float32)})
    np.testing.assert_array_equal(y, np.array([3, -8], np.int32))


def test_a_string_that_is_no_number_is_an_error() -> None:
    model = network(helper.make_node("Cast", ["x"], ["y"], to=7), x=TensorProto.STRING, y=TensorProto.INT64)
    with pytest.raises(ModelError, match=r"a string cannot be cast to int64.*'Hello'"):
        model.run(None, {"x": np.array(["Hello"], object)})


def test_rounding_happens_between_other_nodes() -> None:
    nodes = [
        helper.make_node("Add", ["x", "x"], ["two"]),
        helper.make_node("Cast", ["two"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["two", "wide"], ["y"]),
    ]
    x = RNG.standard_normal(300).astype(np.float32)
    (y,) = network(*nodes, x=TensorProto.FLOAT, y=TensorProto.FLOAT).run(None, {"x": x})
    np.testing.assert_array_equal(y, 2 * x - (2 * x).astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT32, TensorProto.FLOAT])
def test_like_another_value_by_its_type_in_the_file(kind: int) -> None:
    """`like` is computed from a value of type `kind`, and all floats are computed in float32."""
    like = numpy_helper.from_array(np.ones(3).astype(helper.tensor_dtype_to_np_dtype(kind)), "like")
    nodes = [
        helper.make_node("Add", ["like", "like"], ["more"]),
        helper.make_node("CastLike", ["x", "more"], ["z"]),
        helper.make_node("Cast", ["z"], ["y"], to=TensorProto.FLOAT),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N",)) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "like", ports[:1], ports[1:], [like])
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9))
    x = (RNG.standard_normal(100) * 10).astype(np.float32)
    wanted = x.astype(helper.tensor_dtype_to_np_dtype(kind)).astype(np.float32)
    np.testing.assert_array_equal(model.run(None, {"x": x})[0], wanted)


@pytest.mark.parametrize("attrs", [{}, {"to": "FLOAT"}, {"to": 24, "round_mode": "sideways"}])
def test_wrong_attributes_are_errors(attrs: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="Cast 'node': "):
        Case("Cast", [np.ones(3, np.float32)], attrs).run()


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="Cast 'node': ONNX's element type 14"):
        Case("Cast", [np.ones(3, np.float32)], {"to": TensorProto.COMPLEX64}).run()


def test_numbers_of_element_types_are_those_of_onnx() -> None:
    from nbcnn.graph import Node
    from nbcnn.ops.element_types import element_type

    skipped = {"UNDEFINED", "COMPLEX64", "COMPLEX128"}
    for name, number in TensorProto.DataType.items():
        if name not in skipped:
            assert element_type(Node("Cast", [], []), number) == np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))
