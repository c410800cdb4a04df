"""Nothing is timed before both sides have given the same answer."""

from __future__ import annotations

import numpy as np

from nbcnn.errors import NbcnnError

__all__ = ["TOLERANCE", "Disagreement", "agree", "agree_scalar"]

TOLERANCE = 1e-3
"""Largest absolute difference over the standard deviation of what was expected: room for Winograd, none for a wrong
tap.
"""


class Disagreement(NbcnnError):
    """Two sides that should compute the same do not; their timings would mean nothing."""


def agree(what: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """Largest absolute difference over the standard deviation of `theirs`. Raises Disagreement above the tolerance, and
    for NaN.
    """
    if ours.shape != theirs.shape:
        raise Disagreement(f"{what}: ours has shape {ours.shape}, theirs {theirs.shape}")
    with np.errstate(invalid="ignore"):  # infinities make NaN, which is refused below
        difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max(initial=0.0)
        scale = float(theirs.astype(np.float64).std()) or 1.0
    found = float(difference) / scale
    if not found <= tolerance:  # so that NaN fails too
        raise Disagreement(
            f"{what}: the results differ by {found:.3g} of their deviation; at most {tolerance:g} is allowed"
        )
    return found


def agree_scalar(what: str, ours: float, theirs: float, tolerance: float) -> float:
    """Relative difference of two numbers; raises Disagreement above the tolerance, and for NaN."""
    found = abs(ours - theirs) / max(abs(theirs), 1e-12)
    if not found <= tolerance:
        raise Disagreement(f"{what}: ours is {ours:.7g}, theirs {theirs:.7g}; they may differ by {tolerance:g} of it")
    return found
