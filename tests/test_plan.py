"""Plans: only compiled kernels, buffers that never share memory while both live, and nothing outside them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from guards import run_guarded
from networks import assert_close, batch, onnxruntime_run, proto, small_resnet, stir
from numba.core.dispatcher import Dispatcher
from onnx import helper, numpy_helper

import nbcnn
from nbcnn import executor
from nbcnn.binder import Buffer
from nbcnn.errors import ModelError
from nbcnn.graph import Graph
from nbcnn.memory import ALIGNMENT
from nbcnn.onnx_io import to_proto
from nbcnn.placement import Arena, place
from nbcnn.plan import Plan
from nbcnn.zoo import GraphBuilder, graph_of


def vgg_like() -> Graph:
    """VGG's pattern, two blocks deep, with its hidden fully connected layers and their dropout."""
    g = GraphBuilder("vgg_like", (3, 16, 16))
    x = g.input
    for block, filters in enumerate((12, 20)):
        for number in range(2):
            x = g.relu(g.conv(x, f"conv{block}.{number}", filters, kernel=3, pad=1))
        x = g.max_pool(x, 2)
    x = g.dropout(g.relu(g.gemm(g.flatten(x), "fc1", 64)))
    return g.finish(g.gemm(x, "fc2", 10), softmax=True)


NETWORKS = {
    "lenet": (lambda: graph_of("lenet"), (1, 28, 28), 10),
    "resnet18": (lambda: graph_of("resnet18", size=32, classes=10), (3, 32, 32), 10),
    "vgg": (vgg_like, (3, 16, 16), 10),
    "small resnet": (lambda: stir(small_resnet()), (3, 12, 12), 5),
}


def inference_plan(network: str, n: int = 2) -> Plan:
    make, shape, classes = NETWORKS[network]
    x, _ = batch((n, *shape), classes)
    plan = nbcnn.Model(make()).plan({"input": x})
    plan.array("input")[...] = x
    return plan


def training_plan(network: str, n: int = 3) -> Plan:
    """The plan of a step with momentum, its inputs filled in."""
    from nbcnn.training_graph import TARGET

    make, shape, classes = NETWORKS[network]
    x, t = batch((n, *shape), classes)
    trainer = nbcnn.Trainer(nbcnn.Model(make()), optimizer=nbcnn.SGD(lr=0.1, momentum=0.9))
    plan = trainer._bound({"input": x}, t).plan
    trainer._set_hyper()
    plan.array("input")[...] = x
    plan.array(TARGET)[...] = t
    return plan


# --- only compiled kernels


@pytest.mark.parametrize("make", [inference_plan, training_plan])
@pytest.mark.parametrize("network", ["lenet", "resnet18", "vgg"])
def test_every_step_is_a_compiled_kernel(network: str, make: object) -> None:
    plan: Plan = make(network)  # type: ignore[operator]
    calls = [*plan.steps, *(call for item in plan.prepared for call in item.steps())]
    assert len(plan.steps) >= 5
    for kernel, args in calls:
        assert isinstance(kernel, Dispatcher), f"{kernel} is not compiled"
        assert kernel.targetoptions["nopython"]
        for argument in args:
            if isinstance(argument, np.ndarray):
                assert argument.ndim == 1 and argument.flags.c_contiguous
            else:
                assert isinstance(argument, int | float | np.number | tuple), type(argument)


def test_inference_fuses_what_follows_a_convolution() -> None:
    """Batch norm, residual addition and activation leave no call of their own in a ResNet."""
    names = {kernel.__name__ for kernel, _ in inference_plan("resnet18").steps}
    ops = {node.op for node in inference_plan("resnet18").nodes}
    assert not ops & {"BatchNormalization", "Add", "Relu"}, (ops, names)


# --- buffers


def random_steps(seed: int) -> tuple[list[list[Buffer]], list[Buffer]]:
    rng = np.random.default_rng(seed)
    kinds = [np.dtype(kind) for kind in ("f4", "f8", "i8")]
    buffers = [
        Buffer(f"b{k}", kinds[rng.integers(3)], int(rng.integers(1, 400))) for k in range(int(rng.integers(1, 40)))
    ]
    steps = [
        [buffers[k] for k in rng.choice(len(buffers), size=int(rng.integers(1, 4)))]
        for _ in range(int(rng.integers(1, 60)))
    ]
    return steps, [b for b in buffers if rng.random() < 0.1]


def lives(steps: list[list[Buffer]], throughout: list[Buffer]) -> Iterator[tuple[Buffer, int, int]]:
    """Every buffer with the first and the last step of its life, by a slow definition."""
    known = {id(b): b for b in (*(b for used in steps for b in used), *throughout)}
    for buffer in known.values():
        at = [k for k, used in enumerate(steps) if any(b is buffer for b in used)]
        lasting = any(buffer is b for b in throughout)
        yield (buffer, 0, len(steps)) if lasting else (buffer, at[0], at[-1])


@pytest.mark.parametrize("seed", range(60))
def test_buffers_that_live_at_the_same_time_never_overlap(seed: int) -> None:
    steps, throughout = random_steps(seed)
    offsets, peak = place(steps, throughout)
    alive = list(lives(steps, throughout))
    assert set(offsets) == {id(b) for b, _, _ in alive}
    for i, (a, first, last) in enumerate(alive):
        start, stop = offsets[id(a)], offsets[id(a)] + a.nbytes
        assert start % ALIGNMENT == 0 and start >= 0 and stop <= peak
        for b, begin, end in alive[i + 1 :]:
            if first <= end and begin <= last:
                assert stop <= offsets[id(b)] or offsets[id(b)] + b.nbytes <= start, (a.name, b.name)
    padded = [(-(-b.nbytes // ALIGNMENT) * ALIGNMENT, first, last) for b, first, last in alive]
    at_once = max(sum(size for size, first, last in padded if first <= k <= last) for k in range(len(steps)))
    assert at_once <= peak <= sum(size for size, _, _ in padded)


def test_memory_is_used_again() -> None:
    """A chain of 30 equal buffers, two of which live at once, needs the room of two."""
    chain = [Buffer(f"b{k}", np.dtype("f4"), 160) for k in range(30)]
    assert place(list(pairwise(chain)), [])[1] == 2 * 640


def test_plans_of_a_model_share_one_arena() -> None:
    model = nbcnn.zoo.lenet()
    large = model.plan({"input": batch((9, 1, 28, 28), 10)[0]})
    small = model.plan({"input": batch((2, 1, 28, 28), 10)[0]})
    assert small.arena_bytes < large.arena_bytes
    assert np.shares_memory(small.arena, large.arena)


# --- the same results wherever the arrays lie


@pytest.mark.parametrize("make", [inference_plan, training_plan])
@pytest.mark.parametrize("network", ["lenet", "small resnet", "vgg"])
def test_guarded_run_is_equal_bit_for_bit(network: str, make: object) -> None:
    """In the guarded run every buffer has memory of its own, filled with NaN. Equal results say that nothing is written
    outside, nothing is read before it was written, and no two buffers of the arena get in each other's way.
    """
    plan: Plan = make(network)  # type: ignore[operator]
    guarded = run_guarded(plan, masters=True)
    before = {parameter.name: array.copy() for parameter, array in plan.masters}
    executor.execute(plan)
    own = {value.name: plan.array(value.name) for value in plan.graph.outputs}
    own |= {parameter.name: array for parameter, array in plan.masters}
    assert set(guarded) == set(own)
    for name, array in guarded.items():
        assert np.isfinite(array).all()
        np.testing.assert_array_equal(array, own[name], name)
    moved = [name for name, array in before.items() if not np.array_equal(array, own[name])]
    assert bool(moved) == (make is training_plan)


def test_what_rests_on_weights_alone_is_computed_in_order() -> None:
    """`a` is read by the data's nodes and by Exp, `b` by the second Exp alone: Split comes before both."""
    w = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Split", ["w"], ["a", "b"], axis=0),
        helper.make_node("Exp", ["a"], ["exp_a"]),
        helper.make_node("Exp", ["b"], ["exp_b"]),
        helper.make_node("Mul", ["x", "a"], ["p"]),
        helper.make_node("Mul", ["p", "exp_a"], ["q"]),
        helper.make_node("Mul", ["q", "exp_b"], ["y"]),
    ]
    source = proto(nodes, {"x": ["N", 3, 4]}, {"y": ["N", 3, 4]}, {"w": w}, opset=13)
    x = np.random.default_rng(1).standard_normal((5, 3, 4)).astype(np.float32)
    a, b = np.split(w, 2)
    assert_close(nbcnn.load(source)(x), x * a * np.exp(a) * np.exp(b), 1e-4)


@pytest.mark.parametrize("inputs", [["x", "e"], ["e", "x"]])
def test_what_rests_on_weights_alone_is_not_overwritten(inputs: list[str]) -> None:
    """A product may take over the memory of an operand, but not of one that is computed once for all runs."""
    w = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    nodes = [helper.make_node("Exp", ["w"], ["e"]), helper.make_node("Mul", inputs, ["y"])]
    model = nbcnn.load(proto(nodes, {"x": [3, 4]}, {"y": [3, 4]}, {"w": w}, opset=13))
    for factor in (2, 3, 5):
        x = np.full((3, 4), factor, np.float32)
        assert_close(model(x), x * np.exp(w), 1e-5)


def test_plans_of_a_model_share_what_they_make_of_weights() -> None:
    """Weights are packed once for all batch sizes, and again when one of them has changed."""
    model = nbcnn.Model(NETWORKS["small resnet"][0]())
    first, second = (model.plan({"input": batch((n, 3, 12, 12), 5)[0]}) for n in (2, 3))
    arrays = {id(array) for item in first.prepared for array in item.lasting}
    assert first is not second
    assert len({id(array) for item in second.prepared for array in item.lasting} & arrays) >= 5
    x = batch((3, 3, 12, 12), 5)[0]
    for factor in (1, 0.9, 0.8):
        for parameter in model.parameters.values():
            parameter.value = parameter.value * factor
        wanted = onnxruntime_run(to_proto(model.trained_graph()), {"input": x})[0]
        assert_close(model(x[:2]), wanted[:2], 1e-4)
        assert_close(model(x), wanted, 1e-4)
    del first
    model._plans.popitem(last=False)
    assert_close(model(x), wanted, 1e-4)


def test_one_plan_may_prepare_the_same_twice() -> None:
    """Two equal weights that the file computes from nothing, as in onnx's light models."""
    shape, value = np.array([3, 3, 3, 3]), numpy_helper.from_array(np.full(1, 0.01, np.float32))
    nodes = [helper.make_node("ConstantOfShape", ["s"], [name], value=value) for name in ("v", "w")]
    nodes.append(helper.make_node("Conv", ["x", "v"], ["h"], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("Conv", ["h", "w"], ["y"], pads=[1, 1, 1, 1]))
    source = proto(nodes, {"x": [1, 3, 8, 8]}, {"y": [1, 3, 8, 8]}, {"s": shape}, opset=13)
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    assert_close(nbcnn.load(source)(x), onnxruntime_run(source, {"x": x})[0])


def test_the_memory_of_a_model_that_is_dropped_is_free_at_once() -> None:
    """Nothing in it refers to itself in a circle, which would wait for the garbage collector."""
    x, t = batch((2, 3, 12, 12), 5)
    model = nbcnn.Model(NETWORKS["small resnet"][0]())
    model(x)
    trainer = nbcnn.Trainer(model)
    trainer.step(x, t)
    seen = [weakref.ref(model._arena), weakref.ref(trainer), *map(weakref.ref, model.parameters.values())]
    gc.collect()
    gc.disable()
    try:
        del model, trainer
        assert [reference() for reference in seen] == [None] * len(seen)
    finally:
        gc.enable()


def test_more_memory_than_there_is() -> None:
    for size in (1 << 60, 1 << 50):
        with pytest.raises(ModelError, match=r"the network needs [0-9.]+ GiB for what it computes on the way"):
            Arena().reserve(size)
