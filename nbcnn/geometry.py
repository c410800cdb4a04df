"""Integer arithmetic on shapes: sizes of sliding windows, padding rules, taps. ONNX's names: strides, pads (all
begins, then all ends), dilations, kernel_shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

__all__ = ["Window", "broadcast_shape", "gather_phases", "transposed_window", "window"]


@dataclass(frozen=True)
class Window:
    """A sliding window over spatial dimensions.

    size: input extents. kernel, strides, dilations, begins, ends: one integer a dimension. out: output extents.
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    out: tuple[int, ...]

    @property
    def taps(self) -> int:
        count = 1
        for k in self.kernel:
            count *= k
        return count


def _pad_same(size: int, kernel: int, stride: int, dilation: int, upper: bool) -> tuple[int, int]:
    out = -(-size // stride)
    total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)


def window(
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: bool = False,
) -> Window:
    """The window of ONNX Conv and pooling operators (opset 22's rules); raises ValueError where it does not fit.

    ceil_mode: a last window that hangs over the end counts too, unless it would start in the end padding.
    """
    rank = len(size)
    steps = tuple(strides or (1,) * rank)
    spread = tuple(dilations or (1,) * rank)
    flat = tuple(pads or (0,) * (2 * rank))
    if not len(kernel) == len(steps) == len(spread) == rank or len(flat) != 2 * rank:
        raise ValueError(
            f"kernel {tuple(kernel)}, strides {steps}, dilations {spread} and pads {flat} do not fit {rank} dimensions"
        )
    if min((*kernel, *steps, *spread), default=1) < 1:
        raise ValueError(f"kernel {tuple(kernel)}, strides {steps} and dilations {spread} must be positive")
    if min(flat, default=0) < 0:
        raise ValueError(f"pads {flat} must not be negative")
    begins, ends = flat[:rank], flat[rank:]
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        both = [_pad_same(*args, auto_pad == "SAME_UPPER") for args in zip(size, kernel, steps, spread, strict=True)]
        begins, ends = tuple(b for b, _ in both), tuple(e for _, e in both)
    elif auto_pad == "VALID":
        begins = ends = (0,) * rank
    elif auto_pad not in ("NOTSET", ""):
        raise ValueError(f"auto_pad {auto_pad!r} is none of NOTSET, SAME_UPPER, SAME_LOWER, VALID")
    out = []
    for s, k, step, gap, begin, end in zip(size, kernel, steps, spread, begins, ends, strict=True):
        room = s + begin + end - ((k - 1) * gap + 1)
        if room < 0:
            raise ValueError(
                f"a window of {k} (dilation {gap}) is larger than the input of {s} with padding {begin} and {end}"
            )
        count = (-(-room // step) if ceil_mode else room // step) + 1
        if ceil_mode and (count - 1) * step >= s + begin:
            count -= 1
        out.append(count)
    return Window(tuple(size), tuple(kernel), steps, spread, begins, ends, tuple(out))


def transposed_window(
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
) -> Window:
    """The window of ONNX ConvTranspose (opset 22's rules), as it slides over the output: `out` is the input's `size`.

    An output_shape (spatial dimensions alone, or all) decides on the padding; what is larger than all windows together
    is bias. Raises ValueError where something does not fit.
    """
    rank = len(size)
    steps = tuple(strides or (1,) * rank)
    spread = tuple(dilations or (1,) * rank)
    flat = tuple(pads or (0,) * (2 * rank))
    more = tuple(output_padding or (0,) * rank)
    wanted = tuple(output_shape or ())[-rank:]
    given = (kernel, steps, spread, more, wanted or size, flat[::2], flat[1::2])
    if any(len(values) != rank for values in given) or len(flat) != 2 * rank:
        raise ValueError(
            f"kernel {tuple(kernel)}, strides {steps}, dilations {spread}, pads {flat}, output_padding {more} and "
            f"output_shape {tuple(output_shape or ())} do not fit {rank} dimensions"
        )
    if min((*kernel, *steps, *spread), default=1) < 1:
        raise ValueError(f"kernel {tuple(kernel)}, strides {steps} and dilations {spread} must be positive")
    if min((*flat, *more), default=0) < 0:
        raise ValueError(f"pads {flat} and output_padding {more} must not be negative")
    if auto_pad not in ("NOTSET", "", "SAME_UPPER", "SAME_LOWER", "VALID"):
        raise ValueError(f"auto_pad {auto_pad!r} is none of NOTSET, SAME_UPPER, SAME_LOWER, VALID")
    full = [(n - 1) * s + (k - 1) * d + 1 + e for n, s, k, d, e in zip(size, steps, kernel, spread, more, strict=True)]
    if not wanted and auto_pad.startswith("SAME"):
        wanted = tuple(n * s for n, s in zip(size, steps, strict=True))
    if wanted:
        cut = [max(f - n, 0) for f, n in zip(full, wanted, strict=True)]
        # The odd one goes to the end for SAME_UPPER alone (ONNX: ConvTranspose, output_shape).
        begins = tuple(c // 2 if auto_pad == "SAME_UPPER" else c - c // 2 for c in cut)
        ends = tuple(c - b for c, b in zip(cut, begins, strict=True))
    else:
        begins, ends = (flat[:rank], flat[rank:]) if auto_pad != "VALID" else ((0,) * rank, (0,) * rank)
        wanted = tuple(f - b - e for f, b, e in zip(full, begins, ends, strict=True))
    if min(wanted) < 1:
        raise ValueError(f"padding {begins} and {ends} leaves nothing of an output of {tuple(full)}")
    return Window(wanted, tuple(kernel), steps, spread, begins, ends, tuple(size))


def broadcast_shape(*shapes: Sequence[int]) -> tuple[int, ...]:
    """NumPy's (and ONNX's) multidirectional broadcasting; raises ValueError."""
    rank = max(map(len, shapes), default=0)
    padded = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    out = []
    for dims in zip(*padded, strict=True):
        sizes = set(dims) - {1}
        if len(sizes) > 1:
            raise ValueError(f"shapes {', '.join(str(tuple(s)) for s in shapes)} do not broadcast together")
        out.append(sizes.pop() if sizes else 1)
    return tuple(out)


@dataclass(frozen=True)
class Phase:
    """The positions `first`, `first + strides`, ... of a strided window's input, and the taps that meet them.

    grid: how many positions a dimension. taps: for each, its move in the output's grid and its number.
    """

    first: tuple[int, ...]
    grid: tuple[int, ...]
    taps: tuple[tuple[tuple[int, ...], int], ...]


def gather_phases(win: Window) -> list[Phase]:
    """How the gradient of a convolution by its input (or a transposed convolution) gathers from the output.

    Input position i meets tap k at output position (i + begin - k * dilation) / stride, where that is whole.
    Positions with the same remainder modulo the stride meet the same taps; they form one phase.
    """
    phases = []
    for first in product(*(range(min(s, n)) for s, n in zip(win.strides, win.size, strict=True))):
        grid = tuple(-(-(n - f) // s) for n, f, s in zip(win.size, first, win.strides, strict=True))
        taps = []
        for number, tap in enumerate(product(*map(range, win.kernel))):
            at = [f + b - k * d for f, b, k, d in zip(first, win.begins, tap, win.dilations, strict=True)]
            if all(a % s == 0 for a, s in zip(at, win.strides, strict=True)):
                taps.append((tuple(a // s for a, s in zip(at, win.strides, strict=True)), number))
        phases.append(Phase(first, grid, tuple(taps)))
    return phases
