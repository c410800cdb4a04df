"""The functions that users call first. This is the one module, beside the command line, that joins the engine and
ONNX files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcnn.devices import Device, find_device
from nbcnn.graph import Graph, Value
from nbcnn.model import Model
from nbcnn.threads import get_num_threads, set_num_threads

if TYPE_CHECKING:
    from nbcnn.onnx_io import ModelProto, Report

__all__ = ["get_num_threads", "infer", "load", "save", "set_num_threads", "validate"]


def load(
    source: str | os.PathLike[str] | bytes | ModelProto,
    *,
    dtype: str = "float32",
    exact: bool = False,
    autotune: bool = False,
    device: str | Device = "cpu",
    precision: str = "tf32",
    allow_fallback: bool = False,
) -> Model:
    """A model from an ONNX file (a path), the bytes of one, or a ModelProto.

    dtype: what floats are computed in. exact: forbid convolution algorithms that round otherwise than the direct sum.
    autotune: choose the algorithm of each convolution by timing them when a plan is made, instead of by a cost model;
    what was measured is kept on disk for this machine. device: "cpu", "cuda" (the first GPU) or "auto" (a GPU if one
    works, else the processor; `model.device` says which). precision, on a GPU: "tf32" multiplies float32 on tensor
    cores, which round the factors to 10 bits, "fp32" in full; "fp16" and "bf16" keep activations in 16 bits, and
    multiply those (weights stay float32, and so do sums). allow_fallback: run what has no CUDA kernel on the
    processor. Raises FileError, ModelError, or DeviceError for a device that cannot be used. Operators that the engine
    does not have are named when the model is first run, or by `check`.
    """
    from nbcnn.onnx_io import read_model

    name = os.fspath(source) if isinstance(source, str | os.PathLike) else ""
    where = find_device(device, precision=precision, allow_fallback=allow_fallback)
    return Model(read_model(source), dtype, source=str(name), exact=exact, autotune=autotune, device=where)


def save(model: Model, path: str | os.PathLike[str], opset: int | None = None) -> None:
    """Write a model; see Model.save."""
    from nbcnn.onnx_io import write_model

    with model.lock:
        graph = model.trained_graph()
    write_model(graph, path, opset=opset)


def infer(graph: Graph) -> dict[str, Value]:
    """Types and shapes of a graph's values, by name, as far as onnx's shape inference can tell."""
    from nbcnn import onnx_io

    return onnx_io.infer(graph)


def validate(
    source: Model | str | os.PathLike[str] | bytes | ModelProto,
    inputs: Mapping[str, Any] | None = None,
    *,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    exact: bool = False,
    autotune: bool = False,
    device: str | Device = "cpu",
    precision: str = "tf32",
    allow_fallback: bool = False,
) -> Report:
    """Run a network here and in onnxruntime on the same inputs, and compare every output.

    inputs: arrays by name; None makes random ones from the network's input shapes, with `dims` for symbolic dimensions.
    exact, autotune, device, precision, allow_fallback: as in `load`, which they are for.
    The report's `ok` says whether all outputs agree; printed, it shows the largest absolute and relative differences.
    """
    from nbcnn import onnx_io

    if isinstance(source, Model):
        model, proto = source, onnx_io.to_proto(source.trained_graph())
    else:
        where = find_device(device, precision=precision, allow_fallback=allow_fallback)
        model, proto = load(source, exact=exact, autotune=autotune, device=where), source  # type: ignore[assignment]

    def run(names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        return model.run(names, feeds)

    allowed = model.device.tolerance
    return onnx_io.validate(proto, inputs, run, dims=dims, seed=seed, atol=allowed, rtol=allowed)
