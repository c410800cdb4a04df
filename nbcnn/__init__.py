"""nbcnn runs, trains and saves convolutional networks that live in ONNX files.

    model = nbcnn.load("resnet20.onnx")
    y = model(x)
    nbcnn.Trainer(model, loss="cross_entropy", optimizer=nbcnn.SGD(lr=0.1, momentum=0.9)).fit((x, t), epochs=3)
    model.save("tuned.onnx")
    print(nbcnn.validate("tuned.onnx"))

Everything is loaded when it is first asked for (PEP 562): `import nbcnn` alone is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbcnn import data, errors, init, zoo
    from nbcnn.api import get_num_threads, load, save, set_num_threads, validate
    from nbcnn.model import Model
    from nbcnn.optim import SGD, Adam, AdamW
    from nbcnn.trainer import Trainer

    __version__: str

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Model",
    "Trainer",
    "__version__",
    "data",
    "errors",
    "get_num_threads",
    "init",
    "load",
    "save",
    "set_num_threads",
    "validate",
    "zoo",
]

HOMES = {
    "api": ("get_num_threads", "load", "save", "set_num_threads", "validate"),
    "model": ("Model",),
    "optim": ("SGD", "Adam", "AdamW"),
    "trainer": ("Trainer",),
}
MODULES = ("data", "errors", "init", "zoo")


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in MODULES:
        return import_module(f"nbcnn.{name}")
    for home, names in HOMES.items():
        if name in names:
            value = getattr(import_module(f"nbcnn.{home}"), name)
            break
    else:
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = installed_version()
    globals()[name] = value  # the next access finds it without this function
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("nbcnn")
    except PackageNotFoundError:  # run from a copy of the sources that is not installed
        return "unknown"
