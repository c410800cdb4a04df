"""Leaving weights out of a model's bytes, against what protobuf reads from the same bytes."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nbcnn.errors import ModelError
from nbcnn.filemap import lies_in_file
from nbcnn.onnx_io import read_model, write_model
from nbcnn.onnx_io.wire import LARGE, cut_weights, put_weights

COUNT = LARGE // 4
RNG = np.random.default_rng(0)


def tensors() -> list[TensorProto]:
    """Small and large weights, stored in every way."""
    large, small = RNG.standard_normal((2, COUNT)).astype(np.float32), RNG.standard_normal(3).astype(np.float32)
    typed = helper.make_tensor("typed", TensorProto.FLOAT, large.shape, large.flatten())
    noted = numpy_helper.from_array(large.astype(np.float64), "noted")
    noted.doc_string = "behind the data"
    return [
        numpy_helper.from_array(small, "small"),
        numpy_helper.from_array(large, "large"),
        typed,
        noted,
        numpy_helper.from_array(large.astype(np.float16), "half"),
        numpy_helper.from_array(np.arange(COUNT), "whole numbers"),
        numpy_helper.from_array(large[:1, : COUNT - 1], "one less"),
    ]


def model_of(initializers: list[TensorProto]) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy")
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(COUNT, np.float32)))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"]), constant], "g", [x], [y], initializers, "a doc")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def expected(model: onnx.ModelProto, numbers: set[int]) -> onnx.ModelProto:
    """The model without the raw data of these initializers, made by protobuf."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for number in numbers:
        copy.graph.initializer[number].raw_data = b""
    return copy


def test_large_raw_data_is_left_out_and_found() -> None:
    model = model_of(tensors())
    content = model.SerializeToString()
    head, places = cut_weights(content)
    names = {model.graph.initializer[number].name for number in places}
    assert names == {"large", "noted", "half", "whole numbers"}
    assert onnx.ModelProto.FromString(head) == expected(model, set(places))
    for number, (offset, length) in places.items():
        assert content[offset : offset + length] == model.graph.initializer[number].raw_data


def test_two_parts_of_one_graph_are_one_graph() -> None:
    """Protobuf joins messages that are written one behind the other."""
    first, second = model_of(tensors()[:3]), onnx.ModelProto()
    second.graph.initializer.extend(tensors()[3:])
    content = first.SerializeToString() + second.SerializeToString()
    head, places = cut_weights(content)
    whole = onnx.ModelProto.FromString(content)
    assert [whole.graph.initializer[number].name for number in places] == ["large", "noted", "half", "whole numbers"]
    assert onnx.ModelProto.FromString(head) == expected(whole, set(places))


def varints(*numbers: int) -> bytes:
    """Numbers below 2**14 in protobuf's form."""
    return b"".join(bytes([n]) if n < 128 else bytes([n & 127 | 128, n >> 7]) for n in numbers)


@pytest.mark.parametrize("kind", ["a field for each number", "raw data twice", "fields that nobody knows"])
def test_odd_tensors(kind: str) -> None:
    """Old writers put each number into a field of its own; of what comes twice the last counts."""
    tensor = numpy_helper.from_array(RNG.standard_normal(COUNT).astype(np.float32), "w").SerializeToString()
    if kind == "a field for each number":
        tensor = varints(8, 1, 16, 1) + b"".join(b"\x25" + bytes(4) for _ in range(LARGE // 5 + 1)) + b"\x42\x01w"
    elif kind == "raw data twice":
        tensor += tensor
    else:
        tensor = b"\xf9\x07" + bytes(8) + b"\xfd\x07" + bytes(4) + tensor + b"\xf8\x07\x05"
    model = model_of([])
    head = model.SerializeToString()
    size = len(tensor)
    length = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14])
    graph = b"\x2a" + length + tensor
    size = len(graph)
    content = head + b"\x3a" + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + graph
    found, places = cut_weights(content)
    whole = onnx.ModelProto.FromString(content)
    assert len(whole.graph.initializer) == 1
    assert len(places) == (kind == "fields that nobody knows")
    assert onnx.ModelProto.FromString(found) == expected(whole, set(places))


def test_a_mapped_file_reads_like_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model_of(tensors()), path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        assert cut_weights(content) == cut_weights(path.read_bytes())


def test_a_path_gives_what_bytes_give(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model_of(tensors()), path)
    mapped, whole = read_model(path), read_model(path.read_bytes())
    assert [name for name, array in mapped.initializers.items() if lies_in_file(array)] == ["large", "noted", "half"]
    assert not any(lies_in_file(array) for array in whole.initializers.values())
    for name, array in whole.initializers.items():
        assert mapped.initializers[name].dtype == array.dtype
        np.testing.assert_array_equal(mapped.initializers[name], array, name)
    assert mapped.origin == whole.origin


@pytest.mark.parametrize("change", ["short", "long", "negative", "type"])
def test_sizes_that_do_not_fit_are_refused(change: str, tmp_path: Path) -> None:
    path, model = tmp_path / "m.onnx", model_of(tensors()[1:2])
    tensor = model.graph.initializer[0]
    if change == "negative":
        tensor.dims[:] = [-2, -COUNT]
    elif change == "type":
        tensor.data_type = TensorProto.DOUBLE
    else:
        tensor.raw_data = bytes(8 * COUNT + (4 if change == "long" else -4))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"m\.onnx: .*large"):
        read_model(path)


def test_truncations_of_a_file_of_large_weights_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    content = model_of(tensors()).SerializeToString()
    for size in (*range(1, 40), *range(40, len(content), 9973), len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ModelError, match=r"m\.onnx: is (cut short|damaged)"):
            read_model(path)


# --- putting them in again


def join(head: bytes, places: dict[int, tuple[int, int]], content: bytes) -> bytes:
    pieces = put_weights(head, {number: length for number, (_, length) in places.items()})
    payloads = {number: content[offset : offset + length] for number, (offset, length) in places.items()}
    return b"".join(payloads[piece] if isinstance(piece, int) else piece for piece in pieces)


def test_what_was_left_out_can_be_put_in_again() -> None:
    content = model_of(tensors()).SerializeToString()
    head, places = cut_weights(content)
    assert len(places) == 4 and len(head) < len(content) - 4 * LARGE
    assert join(head, places, content) == content
    only_one = {1: places[1]}
    assert onnx.ModelProto.FromString(join(head, only_one, content)) == expected(
        onnx.ModelProto.FromString(content), set(places) - {1}
    )


@pytest.mark.parametrize("as_path", [True, False])
def test_large_weights_are_written_as_they_were_read(as_path: bool, tmp_path: Path) -> None:
    packed = helper.make_tensor("four bits", TensorProto.INT4, [4 * LARGE], bytes(2 * LARGE), raw=True)
    model = model_of([*tensors(), packed])
    content, path = model.SerializeToString(), tmp_path / "m.onnx"
    path.write_bytes(content)
    graph = read_model(path if as_path else content)
    write_model(graph, path)
    assert path.read_bytes() == content
    graph.initializers["large"] = graph.initializers["large"].astype(np.float64) * 2
    graph.initializers["new"] = np.ones(COUNT, np.float32)
    write_model(graph, path)
    saved = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    old = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert list(saved) == [*old, "new"] and saved["large"].dtype == np.float32 and saved["new"].sum() == COUNT
    for name, array in old.items():
        np.testing.assert_array_equal(saved[name], array * 2 if name == "large" else array, name)


def test_a_weight_too_large_for_its_type_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model_of(tensors()), path)
    before, graph = path.read_bytes(), read_model(path)
    graph.initializers["half"] = np.full((2, COUNT), 1e6, np.float32)
    with pytest.raises(ModelError, match="'half' reaches 1e"):
        write_model(graph, path)
    assert path.read_bytes() == before and [entry.name for entry in tmp_path.iterdir()] == ["m.onnx"]


# --- damage


def outcome(source: Path | bytes) -> tuple[bytes, list[tuple[str, str, bytes]]] | None:
    """What protobuf and the checker make of a model: the rest of it and the weights; None where it is no model."""
    try:
        graph = read_model(source)
    except ModelError:
        return None
    weights = [(name, str(array.dtype), array.tobytes()) for name, array in graph.initializers.items()]
    return graph.origin.SerializeToString(), weights


def test_damaged_files_read_like_damaged_bytes(tmp_path: Path) -> None:
    """A path goes by way of the wire format, bytes through protobuf alone."""
    content, path = model_of(tensors()).SerializeToString(), tmp_path / "m.onnx"
    _, places = cut_weights(content)
    payload = {index for offset, length in places.values() for index in range(offset, offset + length)}
    header = [index for index in range(len(content)) if index not in payload]
    starts = sorted({offset for offset, _ in places.values()})
    near = [index for start in starts for index in range(start - 24, start)]
    outcomes = set()
    for number in range(300):
        damaged = bytearray(content)
        position = int(RNG.choice(near if number % 2 else header[:200] + header[-200:]))
        damaged[position] = int(RNG.integers(256))
        path.write_bytes(damaged)
        found, wanted = outcome(path), outcome(bytes(damaged))
        assert found == wanted, (position, damaged[position])
        outcomes.add(wanted is None)
    assert outcomes == {True, False}
