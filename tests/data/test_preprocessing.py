"""From pictures to inputs: order of the steps, channels, modes, resizing, metadata."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nbcnn.data import Preprocessing, decode_picture
from nbcnn.errors import DataError, FileError, InputError, ModelError

REAL = Path(os.environ.get("NBCNN_DATA", Path(__file__).parents[2].parent / "shared" / "data")) / "models"


def test_steps_in_float64() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    wanted = (pixels / 255 - np.array(mean)) / np.array(std)
    got = Preprocessing(mean=mean, std=std).apply(pixels)
    assert got.dtype == np.float32 and got.flags.c_contiguous
    np.testing.assert_allclose(got, wanted.transpose(2, 0, 1), atol=1e-6)
    np.testing.assert_allclose(Preprocessing(mean=mean, std=std, layout="NHWC").apply(pixels), wanted, atol=1e-6)


def test_mean_is_in_the_order_that_the_network_takes() -> None:
    pixels = np.array([[[10, 20, 30]]], np.uint8)  # red, green, blue
    got = Preprocessing(mean=(1, 2, 3), scale=False, bgr=True).apply(pixels)
    np.testing.assert_array_equal(got.ravel(), [29, 18, 7])


def test_channels() -> None:
    gray = np.array([[1, 2]], np.uint8)
    np.testing.assert_array_equal(Preprocessing(scale=False).apply(gray), np.broadcast_to(gray, (3, 1, 2)))
    white = np.full((2, 2, 3), 255, np.uint8)
    np.testing.assert_array_equal(Preprocessing(channels=1).apply(white), np.ones((1, 2, 2)))
    clear = np.dstack([white, np.zeros((2, 2), np.uint8)])
    np.testing.assert_array_equal(Preprocessing().apply(clear), np.ones((3, 2, 2)))


def test_resizing_is_bilinear() -> None:
    # twice as wide: output pixel i samples at (i + 0.5) / 2 - 0.5, clamped to the border
    pixels = np.array([[0, 100]], np.uint8)
    got = Preprocessing(size=(1, 4), channels=1, scale=False).apply(pixels)
    np.testing.assert_allclose(got.ravel(), [0, 25, 75, 100], atol=0.5)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_of_pillow(mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (255, 255, 255, 255)).convert("RGB").convert("P" if mode == "PA" else mode)
    got = Preprocessing().apply(image.convert(mode))
    np.testing.assert_allclose(got, np.ones((3, 4, 4)), atol=0.01)


def test_sixteen_bits_are_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], np.uint16)).save(tmp_path / "a.png")
    got = Preprocessing(channels=1, scale=False).apply(decode_picture(tmp_path / "a.png"))
    np.testing.assert_array_equal(got.ravel(), [0, 128, 255])


def test_a_palette_with_transparency_does_not_warn(tmp_path: Path) -> None:
    Image.new("P", (2, 2)).save(tmp_path / "a.png", transparency=b"\x00\x80")
    assert Preprocessing().apply(decode_picture(tmp_path / "a.png")).shape == (3, 2, 2)


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "a.jpg", exif=exif)
    assert decode_picture(tmp_path / "a.jpg").size == (4, 8)


def test_files_that_are_no_picture(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read"):
        decode_picture(tmp_path / "none.png")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(DataError, match=r"a\.png: not a whole picture"):
        decode_picture(tmp_path / "a.png")


def test_metadata_round_trip() -> None:
    how = Preprocessing((224, 192), (0.1, 1 / 3, 1e-7), (0.25,), "NHWC", bgr=True, scale=False)
    assert Preprocessing.from_metadata({"author": "somebody", **how.to_metadata()}) == how
    assert Preprocessing.from_metadata(Preprocessing().to_metadata()) == Preprocessing()
    assert all(key.startswith("nbcnn.") and isinstance(value, str) for key, value in how.to_metadata().items())
    assert Preprocessing.from_metadata({"author": "somebody"}) is None


@pytest.mark.parametrize("metadata", [{"nbcnn.size": "a,b"}, {"nbcnn.bgr": "perhaps"}, {"nbcnn.size": "1,2,3"}])
def test_metadata_that_cannot_be_read(metadata: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="metadata"):
        Preprocessing.from_metadata(metadata)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 2}, "1 or 3 channels"),
        ({"layout": "CHWN"}, "NCHW or NHWC"),
        ({"size": (0, 4)}, "two positive whole numbers"),
        ({"mean": (1, 2)}, "mean must be one number or 3"),
        ({"mean": (float("nan"),)}, "mean must be"),
        ({"std": (1, 0, 1)}, "std must not be 0"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preprocessing(**arguments)


def test_arrays_that_are_no_picture() -> None:
    with pytest.raises(InputError, match="must be uint8"):
        Preprocessing().apply(np.zeros((4, 4, 3)))
    with pytest.raises(InputError, match="must be uint8"):
        Preprocessing().apply(np.zeros((3, 4, 5), np.uint8))


@pytest.mark.parametrize(
    ("model", "name", "how", "winner", "score"),
    [
        ("mobilenet-v2", "parrot.jpg", Preprocessing((224, 224), (128,), (128,), scale=False), 89, 0.998),
        ("squeezenet-1.1", "fish.png", Preprocessing((224, 224), scale=False, bgr=True), 0, 0.7377),
    ],
)
def test_published_scores_in_onnxruntime(model: str, name: str, how: Preprocessing, winner: int, score: float) -> None:
    file = REAL / model / f"{model}.onnx"
    if not file.is_file():
        pytest.skip(f"no {file}: set NBCNN_DATA to the folder that holds models/")
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    x = how.apply(decode_picture(REAL / model / name))[None]
    (scores,) = session.run(None, {session.get_inputs()[0].name: x})
    assert scores.argmax() == winner
    assert scores.max() == pytest.approx(score, abs=5e-4)
