"""Dynamic loss scaling: the factor by which gradients are multiplied while they are kept in float16."""

from __future__ import annotations

from dataclasses import dataclass

from nbcnn.errors import TrainingError

__all__ = ["LossScale"]

LEAST = 2.0**-14
"""A factor below which gradients overflow because they are not numbers, and not because of the factor."""
MOST = 2.0**24


@dataclass
class LossScale:
    """The factor, from step to step, as in Mixed Precision Training (arXiv:1710.03740, section 3.2), with PyTorch's
    settings: it is halved after a step whose gradients overflowed, and doubled after `patience` steps without one.

    skipped: steps that changed nothing, because their gradients overflowed.
    """

    factor: float = 2.0**16
    patience: int = 2000
    skipped: int = 0
    good: int = 0

    def accepts(self, overflowed: bool) -> bool:
        """Whether a step may be made; sets the factor of the next one. Raises TrainingError where no factor helps."""
        if overflowed:
            self.factor, self.good, self.skipped = self.factor / 2, 0, self.skipped + 1
            if self.factor < LEAST:
                raise TrainingError(
                    "the gradients are not finite, however they are scaled: lower the learning rate, look for values "
                    "that are not finite in the data, or train in another precision (bf16, tf32)"
                )
            return False
        self.good += 1
        if self.good == self.patience:
            self.factor, self.good = min(self.factor * 2, MOST), 0
        return True
