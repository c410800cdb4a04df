"""How a picture becomes a network's input: size, channels, scale, mean, deviation and layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcnn.data.pictures import to_pixels
from nbcnn.errors import InputError, ModelError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Preprocessing"]

PREFIX = "nbcnn."
LAYOUTS = ("NCHW", "NHWC")


@dataclass(frozen=True)
class Preprocessing:
    """The steps from a picture to an input, in this order.

    size: (H, W) to resize to, bilinear as Pillow does it, without keeping the aspect; None keeps the picture's size.
    channels: 1 (gray) or 3 (colour); pictures are converted.
    bgr: reverse the channels from red, green, blue to blue, green, red.
    scale: divide the pixels 0..255 by 255.
    mean, std: subtracted, then divided by; one number for all channels, or one each in the order in which the network
        takes them, and in the units that `scale` leaves.
    layout: "NCHW" (ONNX's own) or "NHWC".
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = "NCHW"
    bgr: bool = False
    scale: bool = True
    channels: int = 3

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise InputError(f"a picture has 1 or 3 channels, not {self.channels}")
        if self.layout not in LAYOUTS:
            raise InputError(f"layout must be NCHW or NHWC, not {self.layout!r}")
        if self.size is not None:
            object.__setattr__(self, "size", _size(self.size))
        for name in ("mean", "std"):
            object.__setattr__(self, name, _per_channel(name, getattr(self, name), self.channels))
        if 0.0 in self.std:
            raise InputError("std must not be 0")

    def apply(self, picture: Image | np.ndarray) -> np.ndarray:
        """One picture, a Pillow image or uint8 (H, W) or (H, W, C), as float32 (C, H, W), or (H, W, C) with NHWC."""
        return self.normalize(self.pixels(picture))

    def pixels(self, picture: Image | np.ndarray) -> np.ndarray:
        """One picture, converted and resized: uint8 (H, W, channels), red first."""
        return to_pixels(picture, self.channels, self.size)

    def normalize(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels of the right size, uint8 (..., H, W, C), as float32 (..., C, H, W), or (..., H, W, C) with NHWC."""
        pixels = pixels[..., ::-1] if self.bgr else pixels
        axes: tuple[int, ...] = (-1,)
        if self.layout == "NCHW":
            pixels, axes = np.moveaxis(pixels, -1, -3), (-1, 1, 1)
        x = pixels.astype(np.float32, order="C")
        if self.scale:
            x /= np.float32(255)
        if any(self.mean):
            x -= np.asarray(self.mean, np.float32).reshape(axes)
        if self.std != (1.0,) * len(self.std):
            x /= np.asarray(self.std, np.float32).reshape(axes)
        return x

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether pixels of this shape (H, W, C) need neither resizing nor another number of channels."""
        return shape[2] == self.channels and self.size in (None, tuple(shape[:2]))

    def output_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """The shape that `apply` gives for a picture of this (H, W)."""
        height, width = self.size or size
        return (self.channels, height, width) if self.layout == "NCHW" else (height, width, self.channels)

    def to_metadata(self) -> dict[str, str]:
        """All fields as text, under keys that begin with "nbcnn.", for a model file's metadata."""
        return {
            PREFIX + f.name: _text(getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) is not None
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Preprocessing | None:
        """What `to_metadata` wrote, None when the metadata has none of it. Raises ModelError for a bad value."""
        found: dict[str, Any] = {}
        for name, read in _READERS.items():
            key = PREFIX + name
            if key in metadata:
                try:
                    found[name] = read(metadata[key])
                except ValueError:
                    raise ModelError(
                        f"the metadata {key} = {metadata[key]!r} cannot be read: correct or remove it"
                    ) from None
        try:
            return cls(**found) if found else None
        except InputError as error:
            raise ModelError(f"the model's {PREFIX}* metadata does not describe a preprocessing: {error}") from None


def _size(size: Any) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(n, int | np.integer) and n > 0 for n in pair):
        raise InputError(f"size must be two positive whole numbers (H, W), not {size}")
    return int(pair[0]), int(pair[1])


def _per_channel(name: str, value: Any, channels: int) -> tuple[float, ...]:
    numbers = tuple(float(v) for v in np.atleast_1d(value))
    if len(numbers) not in (1, channels) or not np.all(np.isfinite(numbers)):
        raise InputError(f"{name} must be one number or {channels}, one a channel, not {value}")
    return numbers


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return str(int(value)) if isinstance(value, bool) else str(value)


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(text)
    return text == "1"


def _floats(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def _ints(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


_READERS: dict[str, Callable[[str], Any]] = {
    "size": _ints,
    "mean": _floats,
    "std": _floats,
    "layout": str,
    "bgr": _flag,
    "scale": _flag,
    "channels": int,
}
