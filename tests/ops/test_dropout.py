"""Dropout: off, on, beside onnxruntime, and what its random numbers promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from harness import Case
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import nbcnn
import nbcnn.threads
from nbcnn import executor
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.kernels.cpu.dropout import dropout, philox
from nbcnn.lower import lower_for_training
from nbcnn.ops.dropout import RANDOM
from nbcnn.passes.specialize import Mode
from nbcnn.plan import Arena, build_plan

SHAPE = (3, 5, 37, 41)
ON = np.array(True)


def ones(dtype: Any = np.float32) -> np.ndarray:
    return np.ones(SHAPE, dtype)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...]) -> None:
    """The test vectors that come with the authors' Random123 library (philox4x32, 10 rounds)."""
    assert tuple(int(w) for w in philox.py_func(*map(np.uint64, (*counter, *key)))) == words


def test_compiled_as_known() -> None:
    """The kernel keeps an element whose word is the threshold, and drops it when that is one higher."""
    seed, step, stream, size = 2**33 + 5, 2**34 + 7, 0xDEADBEEF, 10
    x, y, mask = np.ones(size, np.float32), np.empty(size, np.float32), np.empty(size, np.bool_)
    for i in range(size):
        counter, key = (i // 4, 0, 7, 4), (5, 2 ^ stream)
        word = int(philox.py_func(*map(np.uint64, (*counter, *key)))[i % 4])
        for threshold in (word, word + 1):
            dropout(x, y, mask, np.array([seed, step]), stream, threshold, np.float32(2))
            assert mask[i] == (threshold == word)
            np.testing.assert_array_equal(y, 2 * mask)


@pytest.mark.parametrize(
    ("opset", "inputs", "attrs"),
    [
        (7, [], {"ratio": 0.3}),
        (10, [], {}),
        (12, [np.float32(0.3)], {}),
        (13, [np.float32(0.3), np.array(False)], {}),
        (22, [np.float32(0.0), ON], {}),
    ],
)
def test_off(opset: int, inputs: list[Any], attrs: dict[str, Any]) -> None:
    x = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    arrays = [x, *map(np.asarray, inputs)]
    case = Case("Dropout", [*arrays], attrs, tuple(range(1, len(arrays))), outputs=2, opset=opset)
    y, mask = case.run()
    np.testing.assert_array_equal(y, x)
    assert mask.dtype == np.bool_ and mask.shape == SHAPE and mask.all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("opset", "inputs", "attrs"), [(7, [], {"ratio": 0.3}), (13, [np.float32(0.3)], {})])
def test_training(opset: int, inputs: list[Any], attrs: dict[str, Any], dtype: Any) -> None:
    """On whatever the file says; what is kept, and its gradient, is multiplied by 1 / (1 - ratio), the rest zero."""
    rng = np.random.default_rng(2)
    x, dy = rng.uniform(1, 2, (2, *SHAPE)).astype(dtype)
    arrays = [x, *map(np.asarray, inputs)]
    case = Case("Dropout", [*arrays], attrs, tuple(range(1, len(arrays))), opset=opset, dtype=dtype)
    (y,), (dx,) = case.run_training([dy])
    kept = y != 0
    scale = dtype(1 / (1 - float(np.float32(0.3)))) if inputs else dtype(1 / 0.7)
    np.testing.assert_allclose(y, np.where(kept, x * scale, 0), rtol=1e-6)
    np.testing.assert_allclose(dx, np.where(kept, dy * scale, 0), rtol=1e-6)
    # 22,755 coins: five standard deviations.
    assert abs(kept.mean() - 0.7) < 5 * np.sqrt(0.21 / kept.size)


def test_as_onnxruntime() -> None:
    """The same share is kept, with the same factor, and the mask says which; which ones is each engine's own."""
    graph = helper.make_graph(
        [helper.make_node("Dropout", ["x", "ratio", "on"], ["y", "mask"], seed=7)],
        "dropout",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE),
            helper.make_tensor_value_info("mask", TensorProto.BOOL, SHAPE),
        ],
        [
            helper.make_tensor("ratio", TensorProto.FLOAT, [], [0.25]),
            helper.make_tensor("on", TensorProto.BOOL, [], [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results = [
        session.run(None, {"x": ones()}),
        Case("Dropout", [ones(), np.array(0.25, np.float32), ON], {"seed": 7}, (1, 2), outputs=2, opset=13).run(),
    ]
    for y, mask in results:
        np.testing.assert_array_equal(y, mask * np.float32(1 / 0.75))
        assert abs(mask.mean() - 0.75) < 0.015


def masks(steps: list[tuple[int, int]], threads: int = 2, names: tuple[str, ...] = ("o0",)) -> list[np.ndarray]:
    """What is kept of ones by training plans at each (seed, step)."""
    found = []
    for name in names:
        source = Case("Dropout", [ones()], {"ratio": 0.5}, opset=7).graph()
        source.nodes[0].outputs[0] = source.outputs[0].name = name
        kind = np.dtype(np.float32)
        graph = lower_for_training(source, {"i0": (SHAPE, kind)}, kind, [name], Mode(train=True))
        state = graph.initializers[RANDOM] = np.zeros(2, np.int64)
        plan = build_plan(graph, {}, kind, Arena(), threads=2)
        before = nbcnn.threads.get_num_threads()
        nbcnn.threads.set_num_threads(threads)
        for pair in steps:
            state[:] = pair
            plan.array("i0")[...] = 1
            executor.execute(plan)
            found.append(plan.array(graph.outputs[0].name) != 0)
        nbcnn.threads.set_num_threads(before)
    return found


def test_repeats_exactly_at_any_thread_count() -> None:
    one, two = masks([(1, 5)], threads=1)[0], masks([(1, 5)], threads=2)[0]
    np.testing.assert_array_equal(one, two)


def test_seed_step_and_node_change_the_mask() -> None:
    """Any two differ in about half of the elements."""
    found = masks([(1, 5), (1, 6), (2, 5), (2**40 + 1, 5), (1, 2**40 + 5)], names=("o0", "other"))
    for i, a in enumerate(found):
        for b in found[:i]:
            assert 0.48 < (a != b).mean() < 0.52


def test_a_frozen_layer_is_off() -> None:
    source = Case("Dropout", [ones()], {"ratio": 0.5}, opset=7).graph()
    kind = np.dtype(np.float32)
    mode = Mode(train=True, frozen=lambda node: True)
    graph = lower_for_training(source, {"i0": (SHAPE, kind)}, kind, ["o0"], mode)
    assert "Dropout" not in [n.op for n in graph.nodes]


def test_the_mask_of_a_layer_that_is_off_is_read() -> None:
    """Conv -> Dropout -> y, and the mask through Cast -> z, as onnxruntime has it."""
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("Dropout", ["c"], ["y", "m"]),
            helper.make_node("Cast", ["m"], ["z"], to=TensorProto.FLOAT),
        ],
        "mask",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 5, 5])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4, 3, 3]) for name in "yz"],
        [numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    x = np.random.default_rng(3).standard_normal((2, 3, 5, 5)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for have, want in zip(nbcnn.load(model).run(None, {"x": x}), session.run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)
    assert nbcnn.load(model).run(["m"], {"x": x})[0].all()


def test_refusals() -> None:
    with pytest.raises(ModelError, match=r"Dropout 'node': the ratio 1\.0 is not in"):
        Case("Dropout", [ones()], {"ratio": 1.0}, opset=7).run()
    with pytest.raises(UnsupportedError, match=r"Dropout 'node': training_mode"):
        Case("Dropout", [ones(), np.array(0.5, np.float32), ON], {}, (1,), opset=13).run()


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("seed", [0, 7])
def test_a_seed_is_that_of_the_reference_evaluator(seed: int, outputs: int) -> None:
    """Run in training mode; while the trainer trains, the mask changes from step to step."""
    node = helper.make_node("Dropout", ["x", "ratio", "on"], ["y", "mask"][:outputs], seed=seed)
    ports = [
        helper.make_tensor_value_info(name, kind, dims)
        for name, kind, dims in (("x", TensorProto.FLOAT, SHAPE), ("ratio", TensorProto.FLOAT, []), ("on", 9, []))
    ]
    results = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE),
        helper.make_tensor_value_info("mask", 9, SHAPE),
    ]
    graph = helper.make_graph([node], "dropout", ports, results[:outputs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    feeds = {"x": ones(), "ratio": np.array(0.3, np.float32), "on": ON}
    wanted = ReferenceEvaluator(model).run(None, feeds)
    for have, want in zip(nbcnn.load(model).run(None, feeds), wanted, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-6)
