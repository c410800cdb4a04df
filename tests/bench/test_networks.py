"""What the suite rests on: operation counts, layers, PyTorch with our weights, memory readings, the command line."""

import sys
from math import prod
from pathlib import Path

import numpy as np
import pytest

from bench import __main__ as command
from bench.files import FILES, MissingFile, open_file
from bench.finetune import from_scratch
from bench.layers import Layer, layers_of
from bench.networks import build, flops, inputs, inputs_of
from nbcnn import zoo
from nbcnn.report.probe import resident_bytes


def test_flops_of_vgg16_are_those_of_its_paper_sizes() -> None:
    sizes = [
        (224, 3, 64),
        (224, 64, 64),
        (112, 64, 128),
        (112, 128, 128),
        (56, 128, 256),
        (56, 256, 256),
        (56, 256, 256),
    ]
    sizes += [(28, 256, 512), (28, 512, 512), (28, 512, 512), *[(14, 512, 512)] * 3]
    macs = sum(size * size * 9 * c * m for size, c, m in sizes) + 25088 * 4096 + 4096 * 4096 + 4096 * 1000
    assert flops(zoo.graph_of("vgg16", init="zeros"), 2) == 2 * 2 * macs


def test_layers_of_resnet50() -> None:
    found = layers_of(zoo.graph_of("resnet50", init="zeros"))
    assert sum(found.values()) == 53
    first = next(iter(found))
    assert first == Layer((3, 224, 224), (64, 3, 7, 7), (64, 112, 112), (2, 2), (3, 3, 3, 3), (1, 1), 1)
    assert first.label == "3x224x224 -> 64, 7x7 /2"
    assert first.flops(8) == 2 * 8 * 64 * 112 * 112 * 3 * 49


def test_torch_lenet_takes_our_weights() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from bench.peers import torch_module

    weights = build("lenet").graph.initializers
    module = torch_module("lenet", weights)
    assert {key: tuple(v.shape) for key, v in module.state_dict().items()} == {k: a.shape for k, a in weights.items()}
    assert module(torch.from_numpy(inputs("lenet", 2))).shape == (2, 10)


@pytest.mark.parametrize("name", ["lenet", "resnet18", "resnet50", "vgg16"])
def test_torch_parameters_have_the_names_and_shapes_of_the_zoo(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from bench.torch_nets import MODULES

    with torch.device("meta"):
        state = MODULES[name]().state_dict()
    theirs = {key: tuple(v.shape) for key, v in state.items() if not key.endswith("num_batches_tracked")}
    assert theirs == {key: array.shape for key, array in zoo.graph_of(name, init="zeros").initializers.items()}


def test_from_scratch_forgets_what_was_learned() -> None:
    graph = zoo.graph_of("resnet18", init="ones", classes=10, size=32)
    graph.initializers["bn1.running_mean"][:] = 7
    fresh = from_scratch(graph, seed=0)
    w = fresh.initializers["layer1.0.conv1.weight"]
    assert w.std() == pytest.approx((2 / prod(w.shape[1:])) ** 0.5, rel=0.05)
    assert not fresh.initializers["bn1.running_mean"].any() and np.all(fresh.initializers["bn1.running_var"] == 1)
    assert np.all(graph.initializers["layer1.0.conv1.weight"] == 1)


@pytest.mark.parametrize("name", ["googlenet", "densenet121"])
def test_light_models_get_weights_that_keep_activations_alive(name: str, tmp_path: Path) -> None:
    """Equal weights everywhere would make every channel the same, and a fair comparison impossible."""
    model = open_file(name, tmp_path)
    assert all(node.op != "ConstantOfShape" for node in model.graph.nodes)
    (y,) = model.run(None, {model.inputs[0].name: inputs_of(model, 1)})
    assert y.std() > 0 and np.isfinite(y).all()
    assert np.abs(y).min() > np.finfo(np.float32).tiny


@pytest.mark.parametrize("name", FILES)
def test_a_network_whose_file_is_missing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.files.light_folder", lambda: tmp_path)
    with pytest.raises(MissingFile, match=FILES[name]):
        open_file(name, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="RssAnon is Linux's")
def test_resident_memory_grows_with_what_is_touched() -> None:
    before = resident_bytes()
    block = np.ones(8 << 20, np.float64)
    assert resident_bytes() - before == pytest.approx(block.nbytes, rel=0.1)


def test_every_benchmark_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in command.BENCHMARKS)
