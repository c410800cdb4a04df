"""The errors that nbcnn raises on purpose. Each message is one clear line: what, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

__all__ = [
    "DataError",
    "DeviceError",
    "FileError",
    "InputError",
    "ModelError",
    "NbcnnError",
    "TrainingError",
    "UnsupportedError",
    "brief",
]

MOST_NUMBERS = 8
"""What of a list a message shows: enough for every dimension of a picture, and a few more."""


class NbcnnError(Exception):
    """Base of every error that is the caller's to mend; the command line prints it without a traceback.

    file, context: where it happened, told by whoever knows; the message begins and ends with them.
    """

    file = context = ""

    def within(self, file: str, context: str) -> Self:
        """The error, with these words about where it happened unless it has some."""
        if not self.context:
            self.file, self.context = file, context
        return self

    def __str__(self) -> str:
        before = f"{self.file}: " if self.file else ""
        return before + super().__str__() + (f" ({self.context})" if self.context else "")


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


class DeviceError(NbcnnError):
    """A device that cannot be used: nothing installed for it, no GPU, a driver that is too old, its memory full."""


def brief(numbers: Iterable[Any] | None) -> str:
    """Numbers of a file for a message: "[1, 0.5, 2]", "[1, 2, ...] (48 in all)" where they are many, or "none"."""
    if numbers is None:
        return "none"
    values = numbers.tolist() if hasattr(numbers, "tolist") else numbers
    found = [f"{n:g}" if isinstance(n, float) else str(n) for n in values]
    if len(found) <= MOST_NUMBERS:
        return f"[{', '.join(found)}]"
    return f"[{', '.join(found[:MOST_NUMBERS])}, ...] ({len(found)} in all)"
