"""Whole networks on the GPU beside onnxruntime on the processor."""

from __future__ import annotations

import numpy as np
import pytest
from networks import onnxruntime_run

from nbcnn.onnx_io import to_proto

from .conftest import SIMULATED
from .small import NETWORKS, batches, graph, model

TOLERANCES = {"fp32": 1e-4, "tf32": 1e-2, "fp16": 4e-3, "bf16": 3e-2}
"""Of the largest element. In 16 bits three times what their rounding comes to where the processor emulates it
(bench/kept_in_halves.py): at most 1.4e-3 and 9.3e-3, in ResNet-50 and VGG-16.
"""
BATCHES = (1,) if SIMULATED else (1, 7, 32)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("name", NETWORKS)
def test_as_onnxruntime(name: str, precision: str) -> None:
    ours, file = model(name, precision=precision), to_proto(graph(name)).SerializeToString()
    for size in BATCHES:
        ((x, _),) = batches(ours, 1, size)
        (wanted,) = onnxruntime_run(file, {"input": x})
        for _ in range(3):  # the third is a CUDA graph's
            (found,) = ours.run(None, {"input": x})
            difference = np.abs(found - wanted).max() / np.abs(wanted).max()
            assert difference <= TOLERANCES[precision], f"batch {size}"


def test_every_value_inside(name: str = "mobile") -> None:
    """Values that are fused away in a whole run are outputs here."""
    ours = model(name, precision="fp32")
    inside = [node.outputs[0] for node in ours.graph.nodes if node.op in ("Conv", "BatchNormalization", "Relu")][:6]
    proto = to_proto(graph(name))
    proto.graph.output.extend(type(proto.graph.output[0])(name=value) for value in inside)
    ((x, _),) = batches(ours, 1, 2)
    for found, wanted in zip(
        ours.run(inside, {"input": x}), onnxruntime_run(proto.SerializeToString(), {"input": x})[1:], strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["lenet"])
def test_float64(name: str) -> None:
    from nbcnn.devices import find_device
    from nbcnn.model import Model

    ours, theirs = (Model(graph(name), "float64", device=find_device(where)) for where in ("cuda", "cpu"))
    ((x, _),) = batches(ours, 1, 3)
    (wanted,) = onnxruntime_run(to_proto(graph(name)).SerializeToString(), {"input": x})
    (found,) = ours.run(None, {"input": x})
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
    np.testing.assert_allclose(found, theirs.run(None, {"input": x})[0], rtol=1e-6)
