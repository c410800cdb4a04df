"""The errors that nbcnn raises on purpose. Each message is one clear line: what, where, and what to do."""

from __future__ import annotations

__all__ = ["DataError", "FileError", "InputError", "ModelError", "NbcnnError", "TrainingError", "UnsupportedError"]


class NbcnnError(Exception):
    """Base of every error that is the caller's to mend; the command line prints it without a traceback."""


class FileError(NbcnnError):
    """A file that cannot be read or written."""


class ModelError(NbcnnError):
    """A network that is not valid: not ONNX, truncated, refused by the checker, or inconsistent shapes."""


class UnsupportedError(ModelError):
    """A valid network that asks for something the engine does not have."""


class InputError(NbcnnError, ValueError):
    """An array or argument of the wrong name, shape, dtype or value."""


class DataError(NbcnnError):
    """A data set that cannot be used: empty, mixed sizes, a corrupt picture, a label out of range."""


class TrainingError(NbcnnError):
    """Training that cannot go on, such as a loss that is not a number."""
