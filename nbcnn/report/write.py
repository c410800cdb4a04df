"""Reports on disk: an old file stays whole until the new one is."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbcnn.errors import FileError

__all__ = ["as_json", "write_json", "write_text"]


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a file in UTF-8; folders are made. Raises FileError when it cannot be written."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise FileError(f"{target}: cannot be written: {error.strerror or error}; nothing was changed") from error
    return target


def as_json(content: Any) -> str:
    """A report as JSON text; what is not a finite number, which JSON has no word for, becomes null."""
    return json.dumps(_finite(content), indent=1, allow_nan=False)


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> Path:
    """Write a report as JSON; see write_text and as_json."""
    return write_text(path, as_json(content) + "\n")


def _finite(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
