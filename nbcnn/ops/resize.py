"""Resize and Upsample: each resized axis is a sparse matrix (`SparseAxes`), made here from scale, coordinates, mode.

Coordinates follow the formulas of ONNX Resize-19. Where a pixel is chosen ("nearest") they are computed in float32 and
from whole sizes, as runtimes do, so that ties fall the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor

import numpy as np

from nbcnn.errors import ModelError, UnsupportedError, brief
from nbcnn.graph import Node
from nbcnn.ops.axes import axis_of
from nbcnn.ops.base import Facts, register
from nbcnn.ops.sparse import SparseAxes, SparseMatrix, set_matrices

ROUNDING: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda c: np.ceil(c - 0.5),
    "round_prefer_ceil": lambda c: np.floor(c + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@dataclass(frozen=True)
class AxisSize:
    """One axis: its size before and after, the scale between them, and the part that tf_crop_and_resize looks at."""

    size: int
    out: int
    scale: float
    roi: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Method:
    """Attributes of Resize, by ONNX's names (coordinates: coordinate_transformation_mode)."""

    mode: str = "nearest"
    coordinates: str = "asymmetric"
    nearest_mode: str = "floor"
    cubic_coeff_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False

    def positions(self, axis: AxisSize) -> np.ndarray:
        """(out,): where in the input each output pixel lies."""
        # The scalars are Python's: they take on the type of i.
        i: np.ndarray = np.arange(axis.out, dtype=np.float32 if self.mode == "nearest" else np.float64)
        last = axis.size - 1
        if self.coordinates == "asymmetric":
            return i / axis.scale
        if self.coordinates == "align_corners":
            # The size before it is rounded down: the standard's formula, by which its tests are made.
            whole = axis.out if self.mode == "nearest" else round(axis.scale * axis.size, 4)
            return i * last / (whole - 1) if whole != 1 else 0 * i
        if self.coordinates == "tf_half_pixel_for_nn":
            return (i + 0.5) / axis.scale
        if self.coordinates == "tf_crop_and_resize":
            start, end = axis.roi
            if axis.out == 1:
                return i + 0.5 * (start + end) * last
            return start * last + i * (end - start) * last / (axis.out - 1)
        if self.coordinates == "pytorch_half_pixel" and axis.out == 1:
            return i
        offset = i.dtype.type(0)
        if self.coordinates == "half_pixel_symmetric":
            # The sampled grid is centred where size * scale is not a whole number.
            whole = i.dtype.type(axis.scale) * i.dtype.type(axis.size)
            offset = axis.size / 2 * (1 - axis.out / whole)
        return offset + (i + 0.5) / axis.scale - 0.5

    def matrix(self, axis: AxisSize) -> SparseMatrix:
        """(out, size): how much of each input pixel goes into each output pixel."""
        positions = self.positions(axis)
        columns, weights = self._taps(axis, positions)
        outside = (columns < 0) | (columns >= axis.size)
        if self.exclude_outside:
            weights = np.where(outside, 0, weights)
            total = weights.sum(axis=1, keepdims=True)
            weights /= np.where(total == 0, 1, total)
        columns = columns.clip(0, axis.size - 1)
        if self.coordinates == "tf_crop_and_resize":
            columns[(positions < 0) | (positions > axis.size - 1)] = -1
        return SparseMatrix.from_taps(axis.size, columns, weights)

    def _taps(self, axis: AxisSize, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Input pixels and their weights, (out, taps) each; pixels may lie outside."""
        if self.mode == "nearest":
            chosen = ROUNDING[self.nearest_mode](positions).astype(np.int64)
            return chosen[:, None], np.ones((len(chosen), 1))
        # Where the picture shrinks, the filter grows as much (antialias).
        shrink = min(axis.scale, 1.0) if self.antialias else 1.0
        reach = ceil((1 if self.mode == "linear" else 2) / shrink)
        columns = np.floor(positions).astype(np.int64)[:, None] + np.arange(1 - reach, 1 + reach)
        distances = np.abs(columns - positions[:, None]) * shrink
        weights = np.maximum(1 - distances, 0) if self.mode == "linear" else self._cubic(distances)
        return columns, weights / weights.sum(axis=1, keepdims=True) if self.antialias else weights

    def _cubic(self, distances: np.ndarray) -> np.ndarray:
        """Keys, "Cubic convolution interpolation", 1981, equation 15: for distances in [0, 1], and in [1, 2]."""
        a, d = self.cubic_coeff_a, distances
        near = ((a + 2) * d - (a + 3)) * d**2 + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0))


CHOICES = {
    "mode": ("nearest", "linear", "cubic"),
    "coordinate_transformation_mode": (
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "tf_half_pixel_for_nn",
        "tf_crop_and_resize",
    ),
    "nearest_mode": tuple(ROUNDING),
    "keep_aspect_ratio_policy": ("stretch", "not_larger", "not_smaller"),
}


class _Resizing(SparseAxes):
    layout = "last"

    def apply(self, node: Node, facts: Facts, axes: dict[int, AxisSize], method: Method, empty: float = 0.0) -> None:
        x = facts.value(node, 0)
        for number, axis in axes.items():
            if axis.scale <= 0 or axis.out < 0 or (axis.out and not axis.size):
                raise ModelError(f"{node.label}: axis {number} of {x.dims} cannot be resized to {axis.out}")
        matrices = {number: method.matrix(axis) for number, axis in axes.items() if axis.size}
        set_matrices(node, x.dims, matrices, empty=empty)


def _given(facts: Facts, node: Node, index: int, what: str) -> np.ndarray | None:
    """A constant input that may be left out; files also say so with an empty tensor."""
    array = facts.constant(node, index, what)
    return None if array is None or array.size == 0 else array.reshape(-1)


def _check_choices(node: Node) -> None:
    for name, choices in CHOICES.items():
        if node.attrs.get(name, choices[0]) not in choices:
            raise UnsupportedError(f"{node.label}: {name} {node.attrs[name]!r} is none of {', '.join(choices)}")
    if node.attrs.get("antialias", 0) and node.attrs.get("mode", "nearest") == "nearest":
        raise UnsupportedError(f"{node.label}: antialias=1 has no meaning for mode 'nearest': use 'linear' or 'cubic'")


def _scaled(size: int, scale: float) -> int:
    """The new size; in float32, as runtimes do, because 10 * 0.7 is 7 there."""
    return floor(np.float32(size) * np.float32(scale))


@register("Upsample")
class Upsample(_Resizing):
    """ONNX opsets 1 (height_scale, width_scale, mode bilinear), 7 (scales attribute), 9 (input): output pixel i lies at
    i / scale, nearest rounds down.
    """

    since = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        if node.attrs.get("mode") == "bilinear":
            node.attrs["mode"] = "linear"
        _check_choices(node)
        scales = node.attrs.get("scales")
        if "height_scale" in node.attrs and "width_scale" in node.attrs:
            scales = [1.0, 1.0, node.attrs["height_scale"], node.attrs["width_scale"]]
        if scales is None:
            scales = _given(facts, node, 1, "the scales")
        if scales is None or len(scales) != len(x.dims):
            raise ModelError(f"{node.label}: scales {brief(scales)} do not fit {x.dims}")
        axes = {k: AxisSize(n, _scaled(n, s), float(s)) for k, (n, s) in enumerate(zip(x.dims, scales, strict=True))}
        self.apply(node, facts, axes, Method(node.attrs.get("mode", "nearest")))


@register("Resize")
class Resize(_Resizing):
    """ONNX opsets 10 (as Upsample), 11 (roi, sizes, coordinates), 13, 18 (axes, keep_aspect_ratio_policy), 19."""

    since = 10

    def normalize(self, node: Node, facts: Facts) -> None:
        rank = len(facts.value(node, 0).dims)
        _check_choices(node)
        if facts.opset < 11:
            node.inputs = [node.inputs[0], "", *node.inputs[1:2]]
            method = Method(node.attrs.get("mode", "nearest"))
        else:
            method = Method(
                node.attrs.get("mode", "nearest"),
                node.attrs.get("coordinate_transformation_mode", "half_pixel"),
                node.attrs.get("nearest_mode", "round_prefer_floor"),
                float(node.attrs.get("cubic_coeff_a", -0.75)),
                bool(node.attrs.get("exclude_outside", 0)),
                bool(node.attrs.get("antialias", 0)),
            )
        chosen = [axis_of(node, int(axis), rank) for axis in node.attrs.get("axes", range(rank))]
        axes = self._axes(node, facts, chosen, method.coordinates == "tf_crop_and_resize")
        self.apply(node, facts, axes, method, float(node.attrs.get("extrapolation_value", 0.0)))

    @staticmethod
    def _axes(node: Node, facts: Facts, chosen: list[int], crop: bool) -> dict[int, AxisSize]:
        dims = facts.value(node, 0).dims
        roi = _given(facts, node, 1, "roi") if crop else None
        scales, sizes = _given(facts, node, 2, "the scales"), _given(facts, node, 3, "the sizes")
        bounds = np.array([0.0] * len(chosen) + [1.0] * len(chosen)) if roi is None else roi
        given = sizes if scales is None else scales
        if given is None or len(given) != len(chosen) or len(bounds) != 2 * len(chosen):
            numbers = f"scales {brief(scales)}, sizes {brief(sizes)} or roi {brief(roi)}"
            raise ModelError(f"{node.label}: {numbers} do not fit axes {chosen}")
        found = {}
        for k, axis in enumerate(chosen):
            start, end = float(bounds[k]), float(bounds[k + len(chosen)])
            size = dims[axis]
            if scales is not None:
                found[axis] = AxisSize(size, _scaled(size, scales[k] * (end - start)), float(scales[k]), (start, end))
            else:
                found[axis] = AxisSize(size, int(given[k]), int(given[k]) / max(size, 1), (start, end))
        policy = node.attrs.get("keep_aspect_ratio_policy", "stretch")
        if scales is None and policy != "stretch":
            pick = min if policy == "not_larger" else max
            scale = pick(axis.scale for axis in found.values())
            found = {k: AxisSize(a.size, floor(scale * a.size + 0.5), scale, a.roi) for k, a in found.items()}
        return found
