"""Strings of a file that are not UTF-8: kept where they are only shown, refused where they name values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import nbcnn
from nbcnn.errors import ModelError
from nbcnn.onnx_io import read_model, to_proto

SHOWN = ["NODE1", "GRAPH", "DOCN1", "DOCG1", "MAKER", "METAK", "METAV", "BATCH"]


def content() -> bytes:
    """A network of one node in which each of these words stands for a string of another kind."""
    node = helper.make_node("Gemm", ["NAMEX", "NAMEW"], ["NAMEY"], name="NODE1", doc_string="DOCN1", alpha=1.0)
    graph = helper.make_graph(
        [node],
        "GRAPH",
        [helper.make_tensor_value_info("NAMEX", onnx.TensorProto.FLOAT, ["BATCH", 3])],
        [helper.make_tensor_value_info("NAMEY", onnx.TensorProto.FLOAT, ["BATCH", 2])],
        [numpy_helper.from_array(np.ones((3, 2), np.float32), "NAMEW")],
        doc_string="DOCG1",
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8, producer_name="MAKER")
    model.metadata_props.add(key="METAK", value="METAV")
    return model.SerializeToString()


def latin1(word: str) -> bytes:
    """The network with this word in Latin-1 instead of UTF-8."""
    return content().replace(word.encode(), "\xe9t\xe9!!".encode("latin-1"))


@pytest.mark.parametrize("word", SHOWN)
def test_what_is_shown_is_kept(word: str, tmp_path: Path) -> None:
    model = nbcnn.load(latin1(word))
    np.testing.assert_array_equal(model(np.ones((1, 3), np.float32)), [[3, 3]])
    model.save(tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == latin1(word)
    for text in (model.graph.name, model.graph.doc, model.graph.nodes[0].label, *model.metadata.items()):
        assert isinstance(text, str | tuple) and all(isinstance(part, str) for part in text)


def test_it_is_shown_with_escapes() -> None:
    assert read_model(latin1("NODE1")).nodes[0].label == r"Gemm '\\xe9t\\xe9!!'"


def test_other_metadata_stays_when_some_is_added() -> None:
    graph = read_model(latin1("METAV"))
    graph.metadata["more"] = "1"
    saved = to_proto(graph).SerializeToString()
    assert b"\xe9t\xe9!!" in saved and b"more" in saved


@pytest.mark.parametrize("word", ["NAMEX", "NAMEY", "NAMEW"])
def test_names_of_values_are_refused(word: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(latin1(word))
    with pytest.raises(ModelError, match=r"^.*m\.onnx: the name b'\\xe9t\\xe9!!' is not UTF-8 text: rename it [\w ]+$"):
        nbcnn.load(path)


def test_names_of_attributes_are_refused() -> None:
    with pytest.raises(ModelError, match="is not UTF-8 text"):
        nbcnn.load(content().replace(b"alpha", b"alph\xff"))
