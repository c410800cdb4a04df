"""What tests of network surgery share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from networks import onnxruntime_run

import nbcnn

__all__ = ["saved", "there"]


def saved(model: nbcnn.Model, folder: Path) -> onnx.ModelProto:
    """What a model is saved as, checked by onnx."""
    model.save(folder / "changed.onnx")
    onnx.checker.check_model(folder / "changed.onnx", full_check=True)
    return onnx.load(folder / "changed.onnx")


def there(model: nbcnn.Model, folder: Path, *arrays: np.ndarray) -> list[np.ndarray]:
    """What onnxruntime computes from the saved model; the engine's results are held against it on the way."""
    feeds = {port.name: array for port, array in zip(model.inputs, arrays, strict=True)}
    want = onnxruntime_run(saved(model, folder), feeds)
    for got, y in zip(model.run(None, feeds), want, strict=True):
        np.testing.assert_allclose(got, y, rtol=0, atol=1e-4 * max(1.0, float(np.abs(y).max())))
    return want
