"""Calls that repeat the last one, and plans so small that one thread runs them, against NumPy."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import nbcnn
from nbcnn.errors import InputError
from nbcnn.graph import Graph, Node, Value
from nbcnn.model import Model


def network(width: int = 5) -> Graph:
    """y = relu(x w + b), x (N, 7)."""
    rng = np.random.default_rng(1)
    graph = Graph(opset={"": 17}, inputs=[Value("x", np.dtype(np.float32), ("N", 7))])
    graph.initializers = {
        "w": rng.standard_normal((7, width)).astype(np.float32),
        "b": rng.standard_normal(width).astype(np.float32),
    }
    graph.nodes = [Node("Gemm", ["x", "w", "b"], ["g"]), Node("Relu", ["g"], ["y"])]
    graph.outputs = [Value("y", np.dtype(np.float32), ("N", width))]
    return graph


def expected(model: Model, x: np.ndarray) -> np.ndarray:
    return np.maximum(x @ model.parameters["w"].value + model.parameters["b"].value, 0)


def close(model: Model, x: np.ndarray) -> None:
    np.testing.assert_allclose(model.run(None, {"x": x})[0], expected(model, x), rtol=1e-5, atol=1e-5)


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 7)).astype(np.float32)


def test_each_call_computes_from_its_own_input() -> None:
    model = Model(network())
    for seed in range(3):
        close(model, rows(2, seed))


def test_shapes_and_types_may_alternate() -> None:
    model = Model(network())
    for count in (1, 3, 1, 1, 3, 2):
        close(model, rows(count, count))
        close(model, rows(count, count).astype(np.float64))
        close(model, np.asfortranarray(rows(count, count)))


def test_results_are_the_callers() -> None:
    model = Model(network())
    first = model(rows(2, 1))
    kept = first.copy()
    model(rows(2, 2))
    np.testing.assert_array_equal(first, kept)


def test_a_changed_weight_is_noticed() -> None:
    model, other = Model(network()), Model(network())
    for seed in range(3):
        close(model, rows(2))
        close(model, rows(2))
        other.parameters["w"].value = other.parameters["w"].value + 1
        close(model, rows(2))
        model.parameters["w"].value = rows(7, seed)[:, :5]
        close(model, rows(2))
        model.parameters["b"].value = rows(1, seed)[0, :5]
        close(model, rows(2))


def test_training_between_calls_is_noticed() -> None:
    model = Model(network())
    trainer = nbcnn.Trainer(model, "squared_error", nbcnn.SGD(lr=0.1))
    for seed in range(3):
        close(model, rows(2))
        before = model.parameters["w"].value
        trainer.step(rows(4, seed), np.zeros((4, 5), np.float32))
        assert not np.array_equal(model.parameters["w"].value, before)
        close(model, rows(2))


def test_wrong_inputs_are_still_refused() -> None:
    model = Model(network())
    close(model, rows(2))
    for feeds in ({}, {"z": rows(2)}, {"x": rows(2), "z": rows(2)}, {"x": rows(2)[:, :6]}, {"x": rows(0)}):
        with pytest.raises(InputError):
            model.run(None, feeds)
    with pytest.raises(InputError):
        model.run(None, {"x": np.zeros((2, 7), np.int64)})
    close(model, rows(2))
    np.testing.assert_allclose(model.run(None, {"x": rows(2).tolist()})[0], expected(model, rows(2)), atol=1e-5)


def test_threads_may_call_one_model() -> None:
    model, failures = Model(network()), []

    def call(seed: int) -> None:
        try:
            for _ in range(50):
                close(model, rows(2, seed))
        except AssertionError as error:
            failures.append(error)

    workers = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_small_plans_run_in_one_thread_and_large_ones_do_not() -> None:
    small, large = Model(network()), Model(network(600))
    for model, x, alone in ((small, rows(1), True), (small, rows(3), True), (large, rows(5000), False)):
        close(model, x)
        plan = model.plan({"x": x})
        assert plan.alone is alone
        assert {kernel.py_func.__qualname__.endswith(".alone") for kernel, _ in plan.steps} == {alone}
