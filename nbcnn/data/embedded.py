"""The data set that comes with the package."""

from __future__ import annotations

from importlib import resources

import numpy as np

from nbcnn.data.dataset import ArrayDataset

__all__ = ["digits"]


def digits() -> tuple[ArrayDataset, ArrayDataset]:
    """(train, test): 1,437 and 360 handwritten digits, float32 (N, 1, 8, 8) from 0 to 1, always the same split.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    DOI 10.24432/C50P49, CC BY 4.0; digits.txt beside this file says what was changed.
    """
    with resources.files("nbcnn.data").joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
        train, test = (_part(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
    return train, test


def _part(pixels: np.ndarray, labels: np.ndarray) -> ArrayDataset:
    x = pixels[:, None].astype(np.float32) / np.float32(16)  # 16 is the brightest value
    return ArrayDataset(x, labels.astype(np.int64), classes=[str(digit) for digit in range(10)])
