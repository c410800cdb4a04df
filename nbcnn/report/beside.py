"""onnxruntime beside us on one network: opened, and its results held against ours before anything is timed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcnn.errors import ModelError
from nbcnn.report.agreement import TOLERANCE, agree
from nbcnn.report.peer import session

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["Beside", "difference", "open_beside", "without_folder"]

NEGLIGIBLE = 1e-5
"""An absolute difference that is always allowed: what a sigmoid has driven to zero has next to no deviation."""


@dataclass(frozen=True)
class Beside:
    """peer: onnxruntime, or None for the reason in `missing`. differences: a row for each output."""

    peer: onnxruntime.InferenceSession | None = None
    missing: str = ""
    differences: list[dict[str, Any]] = field(default_factory=list)


def open_beside(
    path: Path,
    threads: int,
    feeds: Mapping[str, np.ndarray],
    ours: Mapping[str, np.ndarray],
    tolerance: float | None = None,
) -> Beside:
    """Open a file in onnxruntime and run it. ours: our outputs, by name and in order, for the same inputs. tolerance:
    in deviations of an output, None for TOLERANCE.

    Raises Disagreement where the results differ; that onnxruntime is not there, or does not take the network, is no
    error.
    """
    if find_spec("onnxruntime") is None:
        return Beside(missing="it is not installed: pip install onnxruntime")
    try:
        peer = session(path, threads)
    except ModelError as error:
        return Beside(missing=without_folder(str(error), path))
    try:
        theirs: Sequence[np.ndarray] = peer.run(None, dict(feeds))
    except Exception as error:  # onnxruntime's own classes are no part of its interface
        return Beside(missing=f"it does not run these inputs: {without_folder(' '.join(str(error).split()), path)}")
    pairs = zip(ours.items(), theirs, strict=True)
    rows = [{"output": name, **difference(name, array, np.asarray(their), tolerance)} for (name, array), their in pairs]
    return Beside(peer, "", rows)


def difference(name: str, ours: np.ndarray, theirs: np.ndarray, allowed: float | None = None) -> dict[str, float]:
    """How far an output is off: the largest difference, and that over the deviation of `theirs`. What is infinite or no
    number in the same place of both is left out. Raises Disagreement where it is off too far.
    """
    if ours.shape != theirs.shape:
        return {"max_abs": math.inf, "deviations": agree(f"output {name!r}", ours, theirs)}
    if ours.dtype.kind == theirs.dtype.kind == "f":
        same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        odd = same & ~np.isfinite(theirs)
        ours, theirs = np.where(odd, 0, ours), np.where(odd, 0, theirs)
    with np.errstate(invalid="ignore"):  # an infinity on one side is refused below
        largest = float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max(initial=0.0))
    tolerance = math.inf if largest <= NEGLIGIBLE else allowed or TOLERANCE
    return {"max_abs": largest, "deviations": agree(f"output {name!r}", ours, theirs, tolerance)}


def without_folder(text: str, path: Path) -> str:
    """A message without where the file lies: a report tells nothing of that."""
    return text.replace(str(path.resolve()), path.name).replace(str(path), path.name)
