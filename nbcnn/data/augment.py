"""Random changes to a training batch that keep its labels true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbcnn.errors import InputError

__all__ = ["Augment"]


@dataclass(frozen=True)
class Augment:
    """Random horizontal flips, and random crops out of the picture padded on every side.

    flip: mirror each picture with probability 1/2.
    crop: how many pixels of padding; the crop has the picture's own size, so that it is a shift by up to `crop`.
        The padding is 0 in the input's own units: black, or the mean where one is subtracted.
    layout: "NCHW" or "NHWC", that of the batches.
    """

    flip: bool = False
    crop: int = 0
    layout: str = "NCHW"

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise InputError(f"the crop's padding must not be negative, it is {self.crop}")
        if self.layout not in ("NCHW", "NHWC"):
            raise InputError(f"layout must be NCHW or NHWC, not {self.layout!r}")

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A changed copy of the batch x, (B, C, H, W) or (B, H, W, C)."""
        if x.ndim != 4:
            raise InputError(f"flips and crops need pictures (B, C, H, W), not an array of shape {x.shape}")
        height_axis = 2 if self.layout == "NCHW" else 1
        if self.crop:
            x = self._shift(x, rng, height_axis)
        if self.flip:
            mirrored = rng.random(len(x)) < 0.5
            x = np.where(mirrored[:, None, None, None], np.flip(x, height_axis + 1), x)
        return x

    def _shift(self, x: np.ndarray, rng: np.random.Generator, height_axis: int) -> np.ndarray:
        pad = self.crop
        widths = [(pad, pad) if axis in (height_axis, height_axis + 1) else (0, 0) for axis in range(4)]
        padded = np.pad(x, widths)
        windows = np.lib.stride_tricks.sliding_window_view(
            padded, x.shape[height_axis : height_axis + 2], (height_axis, height_axis + 1)
        )
        # (B, C, 2p+1, 2p+1, H, W) or (B, 2p+1, 2p+1, C, H, W): one window a picture is taken
        top, left = rng.integers(0, 2 * pad + 1, (2, len(x)))
        each = np.arange(len(x))
        if height_axis == 2:
            return np.ascontiguousarray(windows[each, :, top, left])
        return np.ascontiguousarray(np.moveaxis(windows[each, top, left], 1, -1))
