"""Operations and bytes of nodes, against numbers worked out by hand from the operators' definitions."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest

from nbcnn.graph import Graph, Node, Value
from nbcnn.model import Model
from nbcnn.ops import REGISTRY
from nbcnn.report.arithmetic import GROUPS, MOVES, OPERATIONS, PRODUCTS, Work, group_of, multiply_adds, work
from nbcnn.report.roofline import Roofline
from nbcnn.report.step import RandomStep

F = np.dtype(np.float32)


def values(**shapes: tuple[int, ...]) -> dict[str, Value]:
    return {name: Value(name, F, shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("op", ["Conv", "ConvInputGrad", "ConvWeightGrad"])
def test_a_grouped_convolution_and_its_gradients(op: str) -> None:
    """2 pictures of 6 channels, 8 filters of 3x5 in 2 groups: each has the same products."""
    known = values(x=(2, 6, 9, 9), w=(8, 3, 3, 5), y=(2, 8, 7, 5))
    slots = {"Conv": (["x", "w"], "y"), "ConvInputGrad": (["y", "w"], "x"), "ConvWeightGrad": (["x", "y"], "w")}
    inputs, output = slots[op]
    macs = 2 * 8 * 7 * 5 * 3 * 3 * 5
    moved = 4 * (2 * 6 * 9 * 9 + 8 * 3 * 3 * 5 + 2 * 8 * 7 * 5)
    assert work(Node(op, inputs, [output], {"group": 2}), known) == Work(2 * macs, moved)


def test_a_pool_that_was_fused_hides_no_products() -> None:
    known = values(x=(1, 3, 12, 12), w=(4, 3, 3, 3), y=(1, 4, 5, 5))
    node = Node("PlanesConv", ["x", "w"], ["y"], {"pool": (2, 2)})
    assert multiply_adds(node, known) == 4 * 10 * 10 * 3 * 9


def test_packed_weights_count_without_their_padding() -> None:
    known = values(x=(1, 3, 8, 8), y=(1, 5, 8, 8)) | {"p": Value("p", F, (4096,), "packed")}
    node = Node("Conv", ["x", "p"], ["y"], {"group": 1, "kernel": (3, 3)})
    assert work(node, known).bytes == 4 * (3 * 64 + 5 * 3 * 9 + 5 * 64)


def test_what_is_kept_in_16_bits_moves_so() -> None:
    """A result in float32, here the network's own, of activations and packed weights in float16."""
    half = np.dtype(np.float16)
    known = values(x=(1, 4, 8, 8), y=(1, 5, 8, 8)) | {"p": Value("p", F, (4096,), "packed", kept=half)}
    known["x"].kept = half
    node = Node("Conv", ["x", "p"], ["y"], {"group": 1, "kernel": (3, 3)})
    assert work(node, known).bytes == 2 * (4 * 64 + 5 * 4 * 9) + 4 * 5 * 64


def test_transposed_convolution() -> None:
    """Every element of x meets every filter: x (1, 4, 5, 5), w (4, 6, 2, 2)."""
    known = values(x=(1, 4, 5, 5), w=(4, 6, 2, 2), y=(1, 6, 10, 10))
    assert multiply_adds(Node("ConvTranspose", ["x", "w"], ["y"]), known) == 4 * 25 * 6 * 4


@pytest.mark.parametrize(
    ("op", "inputs", "output", "attrs"),
    [
        ("Gemm", ["a", "w"], "y", {}),
        ("Gemm", ["t", "w"], "y", {"transA": True}),
        ("GemmInputGrad", ["y", "w"], "a", {}),
        ("GemmWeightGrad", ["a", "y"], "w", {}),
        ("MatMul", ["a", "w"], "y", {}),
        ("MatMul", ["t", "w"], "y", {"transA": True}),
    ],
)
def test_matrix_products(op: str, inputs: list[str], output: str, attrs: dict[str, Any]) -> None:
    """(7, 11) by (11, 5)."""
    known = values(a=(7, 11), t=(11, 7), w=(11, 5), y=(7, 5))
    assert work(Node(op, inputs, [output], attrs), known) == Work(2 * 7 * 11 * 5, 4 * (77 + 55 + 35))


def test_a_value_that_is_read_twice_moves_once() -> None:
    assert work(Node("Mul", ["x", "x"], ["y"]), values(x=(10,), y=(10,))) == Work(10, 80)


def test_an_update_reads_and_writes_its_weight_and_state() -> None:
    known = values(w=(100,), g=(100,), v=(100,), h=(5,))
    found = work(Node("SGDUpdate", ["w", "g", "v", "h"], [], {"effect": True}), known)
    assert found == Work(400, 4 * (3 * 100 + 5 + 2 * 100))


def test_moving_computes_nothing() -> None:
    known = values(x=(1, 2, 3, 4), y=(1, 2, 3, 4))
    assert work(Node("ToLayout", ["x"], ["y"]), known) == Work(0, 192)


def test_lists_name_operators_that_exist() -> None:
    listed = {*MOVES, *OPERATIONS, *PRODUCTS, *(op for ops in GROUPS.values() for op in ops)}
    assert {op for op in listed if op not in REGISTRY} == set()


def test_every_node_of_a_training_step_can_be_counted() -> None:
    """Forward and both gradients have the same products, but for the first layer, whose input needs none."""
    model = Model(_one_layer())
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    step = RandomStep(model, {"x": x})
    from nbcnn.executor import recording

    with recording() as records:
        step()
    plan = records[0].plan
    nodes = {id(node): node for node in plan.nodes}.values()
    assert all(work(node, plan.graph.values).bytes > 0 for node in nodes)
    flops = {node.op: work(node, plan.graph.values).flops for node in nodes if group_of(node.op) == "convolution"}
    assert set(flops.values()) == {2 * 2 * 4 * 36 * 3 * 9} and len(flops) == 2


def _one_layer() -> Graph:
    w = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32)
    return Graph(
        nodes=[Node("Conv", ["x", "w"], ["y"], {"pads": [1, 1, 1, 1]}, name="layer")],
        inputs=[Value("x", F, ("N", 3, 6, 6))],
        outputs=[Value("y", F, ("N", 4, 6, 6))],
        initializers={"w": w},
        opset={"": 17},
    )


def test_roofline() -> None:
    roof = Roofline(gflops=100.0, gbytes=20.0)
    assert roof.ridge == 5.0
    assert roof.attainable(1.0) == 20.0 and roof.attainable(50.0) == 100.0
    assert roof.seconds(Work(10**9, 10**6)) == pytest.approx(0.01)
    assert roof.seconds(Work(10**6, 10**9)) == pytest.approx(0.05)
    assert (roof.bound(Work(10**9, 10**6)), roof.bound(Work(0, 10))) == ("arithmetic", "memory")


def test_roofline_of_a_machine_that_was_not_measured() -> None:
    machine: dict[str, Any] = {"threads": 2, "fma_gflops": {"1": 100.0}, "triad_gbytes": {"1": 20.0}}
    assert Roofline.of(machine) is None
    assert Roofline.of(machine | {"threads": 1}) == Roofline(100.0, 20.0)


def test_prod_of_shapes_is_what_work_counts() -> None:
    shape = (2, 3, 5, 7)
    assert work(Node("Relu", ["x"], ["y"]), values(x=shape, y=shape)) == Work(prod(shape), 8 * prod(shape))
