"""ONNX Resize-19 and Upsample-9, nearest and linear: one explicit matrix an axis, and its transpose for backward.

Coordinates are float64 here and float32 in most runtimes: where a nearest coordinate lies within rounding of a tie,
the two may choose different pixels. Compare at scales where it does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reference._float64 import Array, f64
from reference.geometry import Ints

ROUNDING = {
    "round_prefer_floor": lambda c: math.ceil(c - 0.5),
    "round_prefer_ceil": lambda c: math.floor(c + 0.5),
    "floor": math.floor,
    "ceil": math.ceil,
}


def resize(
    x: npt.ArrayLike,
    scales: Sequence[float] | None = None,
    sizes: Ints | None = None,
    axes: Ints | None = None,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
) -> Array:
    """x resized along `axes` (all by default) to floor(size * scale), or to `sizes` (then the scale is new / old)."""
    y = f64(x)
    plan = _plan(y.shape, scales, sizes, axes)
    for axis, (out, scale) in plan.items():
        matrix = resize_matrix(y.shape[axis], out, scale, mode, coordinate_transformation_mode, nearest_mode)
        y = _along(matrix, y, axis)
    return y


def resize_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    scales: Sequence[float] | None = None,
    sizes: Ints | None = None,
    axes: Ints | None = None,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
) -> Array:
    dx, shape = f64(dy), f64(x).shape
    for axis, (out, scale) in _plan(shape, scales, sizes, axes).items():
        matrix = resize_matrix(shape[axis], out, scale, mode, coordinate_transformation_mode, nearest_mode)
        dx = _along(matrix.T, dx, axis)
    return dx


def upsample(x: npt.ArrayLike, scales: Sequence[float], mode: str = "nearest") -> Array:
    """Upsample-9 and Resize-10: pixel i of the output lies at i / scale of the input, nearest rounds down."""
    return resize(x, scales, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def upsample_backward(dy: npt.ArrayLike, x: npt.ArrayLike, scales: Sequence[float], mode: str = "nearest") -> Array:
    return resize_backward(dy, x, scales, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def resize_matrix(size: int, out: int, scale: float, mode: str, coordinates: str, nearest_mode: str) -> Array:
    """(out, size): how much of each input pixel goes into each output pixel along one axis."""
    matrix = np.zeros((out, size))
    for i in range(out):
        # Runtimes choose by whole sizes, but the standard interpolates by the size before it is rounded.
        width = out if mode == "nearest" else scale * size
        c = source_coordinate(i, size, out, scale, coordinates, width)
        if mode == "nearest":
            matrix[i, _inside(ROUNDING[nearest_mode](c), size)] = 1.0
        elif mode == "linear":
            left = math.floor(c)
            # Beyond the border lies a copy of the border pixel.
            matrix[i, _inside(left, size)] += 1 - (c - left)
            matrix[i, _inside(left + 1, size)] += c - left
        else:
            raise ValueError(f"mode {mode!r}")
    return matrix


def source_coordinate(i: int, size: int, out: int, scale: float, mode: str, width: float) -> float:
    """Where output pixel i lies in the input, by ONNX's coordinate_transformation_mode. width: what align_corners takes
    as the new size.
    """
    if mode == "asymmetric":
        return i / scale
    if mode == "align_corners":
        return 0.0 if width == 1 else i * (size - 1) / (width - 1)
    if mode == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    if mode == "pytorch_half_pixel" and out == 1:
        return 0.0
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return (i + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        # Centres the sampled grid where size * scale is not a whole number.
        offset = size / 2 * (1 - out / (scale * size))
        return offset + (i + 0.5) / scale - 0.5
    raise ValueError(f"coordinate_transformation_mode {mode!r}")


def _plan(
    shape: Ints, scales: Sequence[float] | None, sizes: Ints | None, axes: Ints | None
) -> dict[int, tuple[int, float]]:
    """axis -> (new size, scale)."""
    axes = range(len(shape)) if axes is None else [axis % len(shape) for axis in axes]
    if sizes is not None:
        return {axis: (out, out / shape[axis]) for axis, out in zip(axes, sizes, strict=True)}
    assert scales is not None
    return {axis: (math.floor(shape[axis] * scale), scale) for axis, scale in zip(axes, scales, strict=True)}


def _inside(i: int, size: int) -> int:
    return min(max(i, 0), size - 1)


def _along(matrix: Array, x: Array, axis: int) -> Array:
    return np.moveaxis(np.tensordot(matrix, x, axes=(1, axis)), 0, axis)
