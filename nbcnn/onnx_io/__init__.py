"""ONNX files in and out, and the comparison with onnxruntime: the only package that knows protobuf.

Reading keeps everything that a file says, also what the engine has no use for, so that writing gives it back unchanged.
What an operator means is not known here: nbcnn.ops knows.
"""

from __future__ import annotations

from onnx import ModelProto

from nbcnn.onnx_io.exporter import to_proto
from nbcnn.onnx_io.importer import read_model
from nbcnn.onnx_io.inference import infer
from nbcnn.onnx_io.validation import Report, validate
from nbcnn.onnx_io.writer import write_model

__all__ = ["ModelProto", "Report", "infer", "read_model", "to_proto", "validate", "write_model"]
