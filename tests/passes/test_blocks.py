"""Which convolutions become a block, and that results stay those of onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from networks import assert_close, onnxruntime_run, proto
from onnx import helper

import nbcnn
from nbcnn.passes import blocks

RNG = np.random.default_rng(0)
ARRAYS = {
    "expand": (0.3 * RNG.standard_normal((12, 4, 1, 1))).astype(np.float32),
    "taps": (0.3 * RNG.standard_normal((12, 1, 3, 3))).astype(np.float32),
    "few": RNG.standard_normal((4, 1, 3, 3)).astype(np.float32),
    "taps5": (0.3 * RNG.standard_normal((12, 1, 5, 5))).astype(np.float32),
    "project": (0.3 * RNG.standard_normal((4, 12, 1, 1))).astype(np.float32),
    "project3": (0.3 * RNG.standard_normal((4, 12, 3, 3))).astype(np.float32),
    "low": np.array(0, np.float32),
    "high": np.array(6, np.float32),
}
ANY = ["N", "C", "H", "W"]
PADS = {"pads": [1, 1, 1, 1]}
node = helper.make_node
EXPAND = [node("Conv", ["x", "expand"], ["a"]), node("Clip", ["a", "low", "high"], ["b"])]
DEPTHWISE = [node("Conv", ["b", "taps"], ["c"], group=12, **PADS), node("Clip", ["c", "low", "high"], ["d"])]
PROJECT = [node("Conv", ["d", "project"], ["e"])]
BLOCK = "InvertedResidual"

# name: nodes, outputs, convolutions that are left
CASES: dict[str, tuple[list[onnx.NodeProto], list[str], list[str]]] = {
    "a block": ([*EXPAND, *DEPTHWISE, *PROJECT], ["e"], [BLOCK]),
    "with a residual": ([*EXPAND, *DEPTHWISE, *PROJECT, node("Add", ["x", "e"], ["y"])], ["y"], [BLOCK]),
    "two in a row": (
        [
            *(*EXPAND, *DEPTHWISE, *PROJECT, node("Add", ["x", "e"], ["f"])),
            *(node("Conv", ["f", "expand"], ["g"]), node("Conv", ["g", "taps"], ["h"], group=12, **PADS)),
            *(node("Conv", ["h", "project"], ["i"]), node("Add", ["f", "i"], ["y"])),
        ],
        ["y"],
        [BLOCK, BLOCK],
    ),
    "one ends where the next could begin": (
        [
            *(*EXPAND, *DEPTHWISE, *PROJECT, node("Conv", ["e", "few"], ["f"], group=4, **PADS)),
            *(node("Conv", ["f", "expand"], ["g"]), node("Conv", ["g", "taps"], ["h"], group=12, **PADS)),
            node("Conv", ["h", "project"], ["y"]),
        ],
        ["y"],
        [BLOCK, BLOCK, BLOCK],
    ),
    "what is expanded is an output": ([*EXPAND, *DEPTHWISE, *PROJECT], ["b", "e"], ["Conv", BLOCK]),
    "what is expanded is read again": (
        [*EXPAND, *DEPTHWISE, *PROJECT, node("Conv", ["b", "project"], ["f"]), node("Add", ["e", "f"], ["y"])],
        ["y"],
        ["Conv", BLOCK, "Conv"],
    ),
    "what lies between is an output": ([*EXPAND, *DEPTHWISE, *PROJECT], ["d", "e"], ["Conv", "Conv", "Conv"]),
    "a residual of the depthwise convolution": (
        [*EXPAND, DEPTHWISE[0], node("Add", ["c", "b"], ["d"]), *PROJECT],
        ["e"],
        ["Conv", "Conv", "Conv"],
    ),
    "taps of 5x5": (
        [*EXPAND, node("Conv", ["b", "taps5"], ["d"], group=12, pads=[2, 2, 2, 2]), *PROJECT],
        ["e"],
        ["Conv", "Conv", "Conv"],
    ),
    "dilated taps": (
        [*EXPAND, node("Conv", ["b", "taps"], ["d"], group=12, dilations=[2, 2]), *PROJECT],
        ["e"],
        ["Conv", "Conv", "Conv"],
    ),
    "projected by 3x3 taps": ([*EXPAND, *DEPTHWISE, node("Conv", ["d", "project3"], ["e"])], ["e"], ["Conv"] * 3),
    "projected with a stride": (
        [*EXPAND, *DEPTHWISE, node("Conv", ["d", "project"], ["e"], strides=[2, 2])],
        ["e"],
        ["Conv"] * 3,
    ),
    "expanded with a stride": (
        [node("Conv", ["x", "expand"], ["b"], strides=[2, 2]), *DEPTHWISE, *PROJECT],
        ["e"],
        ["Conv", BLOCK],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_blocks_and_results(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "CACHE", 0)
    nodes, outputs, left = CASES[name]
    used = {n for item in nodes for n in item.input}
    arrays = {k: v for k, v in ARRAYS.items() if k in used}
    file = proto(nodes, {"x": [2, 4, 11, 9]}, dict.fromkeys(outputs, ANY), arrays)
    x = RNG.standard_normal((2, 4, 11, 9)).astype(np.float32)
    model = nbcnn.load(file)
    found = model.run(None, {"x": x})
    for ours, theirs in zip(found, onnxruntime_run(file, {"x": x}), strict=True):
        assert_close(ours, theirs, 1e-4)
    ops = [n.op for n in model.plan({"x": x}).graph.nodes]
    assert [op for op in ops if op in ("Conv", BLOCK)] == left


def block_of(x: np.ndarray) -> list[str]:
    """The operators of the plan of a block for this input."""
    arrays = {name: ARRAYS[name] for name in ("expand", "taps", "project", "low", "high")}
    file = proto([*EXPAND, *DEPTHWISE, *PROJECT], {"x": x.shape}, {"e": ANY}, arrays)
    return [n.op for n in nbcnn.load(file).plan({"x": x}).graph.nodes]


def test_pictures_that_fit_the_cache_are_left_alone() -> None:
    x = np.zeros((1, 4, 200, 120), np.float32)
    assert BLOCK in block_of(x)
    assert BLOCK not in block_of(x[:, :, :180].copy())


def test_lines_that_do_not_fit_the_cache_are_left_alone() -> None:
    assert BLOCK not in block_of(np.zeros((1, 4, 8, 6000), np.float32))
