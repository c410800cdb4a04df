"""Plans of whole networks bind on a GPU: no kernel of theirs is missing, forward, backward and in the update."""

from __future__ import annotations

import numpy as np
import pytest
from gpu.small import mobile

from nbcnn.devices import PRECISIONS, find_device
from nbcnn.graph import Graph
from nbcnn.model import Model
from nbcnn.optim import SGD, Adam
from nbcnn.trainer import Trainer
from nbcnn.zoo import graph_of

BATCH = 2
SIZES = {"lenet": 28, "resnet18": 64, "googlenet": 64, "densenet121": 64}


def network(name: str) -> Graph:
    return mobile(64) if name == "mobile" else graph_of(name, size=SIZES[name], classes=10, init="zeros")


def inputs(graph: Graph) -> np.ndarray:
    return np.zeros((BATCH, *(int(n) for n in (graph.inputs[0].shape or ())[1:] if n is not None)), np.float32)


@pytest.mark.parametrize("name", [*SIZES, "mobile"])
def test_inference(name: str) -> None:
    for precision in PRECISIONS:
        model = Model(network(name), device=find_device("cuda", precision=precision))
        assert model.plan({"input": inputs(model.graph)}).steps


@pytest.mark.parametrize(
    ("name", "optimizer"), [("lenet", Adam()), ("resnet18", SGD(lr=0.1, momentum=0.9)), ("googlenet", SGD(lr=0.1))]
)
def test_training(name: str, optimizer: SGD | Adam) -> None:
    model = Model(network(name), device=find_device("cuda"))
    assert Trainer(model, optimizer=optimizer).plan(inputs(model.graph), np.zeros(BATCH, np.int64)).steps
