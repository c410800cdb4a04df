"""A hundred random networks against onnxruntime; `python -m bench random-graphs` runs thousands."""

from __future__ import annotations

import onnx
import pytest

from bench.random_graphs import network, problem


@pytest.mark.parametrize("number", range(100))
def test_agrees_with_onnxruntime(number: int) -> None:
    assert not problem(network(1, number))


def test_a_network_depends_on_its_number_alone() -> None:
    first, again, other = (network(1, number).model() for number in (7, 7, 8))
    assert first == again != other
    onnx.checker.check_model(first, full_check=True)
