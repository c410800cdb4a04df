"""Networks that are timed and come as files: two with trained weights from the folder of real data, two that the onnx
package ships (light.py). One that is not there is skipped, and it is said why.
"""

from __future__ import annotations

from pathlib import Path

from bench.light import light_folder, light_model
from nbcnn.model import Model

__all__ = ["FILES", "MissingFile", "open_file"]

FILES = {
    "squeezenet": "models/squeezenet-1.1/squeezenet-1.1.onnx",
    "mobilenet": "models/mobilenet-v2/mobilenet-v2.onnx",
    "googlenet": "light_inception_v1.onnx",
    "densenet121": "light_densenet121.onnx",
}
"""Name -> path in the folder of real data, or (light models, which lie in no folder) in that of the onnx package."""


class MissingFile(Exception):
    """A network whose file is not on this machine; the message says what is missing."""


def open_file(name: str, data: Path) -> Model:
    """The network of this name. data: the folder of real data, which need not exist. Raises MissingFile."""
    from nbcnn.api import load

    light = "/" not in FILES[name]
    path = (light_folder() if light else data) / FILES[name]
    if not path.is_file():
        where = "this onnx package has no" if light else f"{data} has no"
        raise MissingFile(f"{where} {FILES[name]}")
    return light_model(path) if light else load(path)
