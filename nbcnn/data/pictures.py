"""Decoding and converting single pictures. Pillow is imported here only, when first needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.errors import DataError, FileError, InputError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SUFFIXES", "decode_picture", "picture_header", "to_pixels"]

SUFFIXES = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"])
"""The file names that count as pictures, in lower case."""

GRAY_MODES = frozenset(["1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F"])


def decode_picture(path: str | Path) -> Image:
    """A picture, fully decoded and turned upright as its EXIF data says.

    Raises FileError when the file cannot be opened, DataError naming the file when it is not a whole picture.
    """
    image = _open(path)
    from PIL import ImageOps

    with image:
        try:
            image.load()
            return ImageOps.exif_transpose(image)
        except Exception as error:  # Pillow's decoders raise nearly anything for broken files
            raise _corrupt(path, error) from None


def picture_header(path: str | Path) -> tuple[tuple[int, int], bool]:
    """((H, W), whether it is gray) from a picture's header alone; the size is that of the upright picture."""
    with _open(path) as image:
        try:
            turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
        except Exception as error:
            raise _corrupt(path, error) from None
        return (image.size if turned else image.size[::-1]), image.mode in GRAY_MODES  # Pillow's size is (W, H)


ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 swap width and height


def to_pixels(picture: Image | np.ndarray, channels: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """A picture converted to gray (1 channel) or colour (3), then resized: uint8 (H, W, channels), red first.

    picture: a Pillow image of any mode, or uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
    """
    if isinstance(picture, np.ndarray):
        _check_array(picture)
        if picture.ndim == 3 and picture.shape[2] == channels and size in (None, picture.shape[:2]):
            return picture
        from PIL import Image

        picture = Image.fromarray(picture[..., 0] if picture.shape[2:] == (1,) else picture)
    from PIL.Image import Resampling

    picture = _convert(picture, channels)
    if size is not None and picture.size != size[::-1]:
        picture = picture.resize(size[::-1], Resampling.BILINEAR)
    pixels = np.asarray(picture)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _convert(image: Image, channels: int) -> Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB Pillow warns
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image) -> Image:
    """Gray of more than 8 bits: integers are taken as 16-bit and lose their low byte; Pillow alone would clip them."""
    from PIL import Image as module

    values = np.asarray(image)
    if image.mode.startswith("I"):
        values = values.astype(np.int64) >> 8
    return module.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _open(path: str | Path) -> Image:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(path)
    except UnidentifiedImageError as error:
        raise _corrupt(path, error) from None
    except OSError as error:
        if error.strerror is None:  # not the system's: some decoders say so what they do not like
            raise _corrupt(path, error) from None
        raise FileError(f"cannot read {path}: {error.strerror}") from None
    except Exception as error:
        raise _corrupt(path, error) from None


def _corrupt(path: str | Path, error: Exception) -> DataError:
    why = "not a picture that Pillow knows" if type(error).__name__ == "UnidentifiedImageError" else str(error)
    why = why.partition("\n")[0] or type(error).__name__
    return DataError(f"{path}: not a whole picture ({why}): replace or remove it")


def _check_array(picture: np.ndarray) -> None:
    if picture.dtype != np.uint8 or not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (1, 3, 4))):
        raise InputError(f"a picture must be uint8 (H, W) or (H, W, 1, 3 or 4), not {picture.dtype} {picture.shape}")
