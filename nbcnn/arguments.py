"""Checks of arguments that several functions take."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from nbcnn.errors import InputError

__all__ = ["check_count"]


def check_count(name: str, value: Any) -> None:
    """Raise InputError unless the argument of this name is a whole number of at least one."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InputError(f"{name} must be a whole number of at least 1, not {value!r}")
