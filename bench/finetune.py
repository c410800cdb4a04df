"""Fine-tuning: resnet20-cifar10 gets a new head for the ten classes of Fashion-MNIST (28x28 gray, padded to 32x32,
three channels), and must beat the same network from scratch after as many epochs. The tuned file is saved, reloaded and
compared with onnxruntime.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from bench.options import add_data, add_out, data_folder, finish, start
from bench.report import table
from bench.results import CIFAR_MEAN, CIFAR_STD
from nbcnn.api import load
from nbcnn.data import Dataset, PixelDataset, Preprocessing, Subset, read_idx
from nbcnn.graph import Graph
from nbcnn.init import he_normal
from nbcnn.model import Model
from nbcnn.optim import SGD
from nbcnn.report.agreement import Disagreement
from nbcnn.report.peer import session
from nbcnn.surgery import new_head
from nbcnn.trainer import Epoch, Trainer

__all__ = ["configure", "fashion", "from_scratch", "run"]

CLASSES = 10
COMPARED = 1000
LOGITS = 1e-3
"""How far a logit may be from onnxruntime's."""

STATISTICS = (1.0, 0.0, 0.0, 1.0)
"""How a batch norm begins: scale, bias, running mean, running variance."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=10_000, help="training pictures, of 60,000")
    parser.add_argument("--held", type=int, default=10_000, help="test pictures, of 10,000")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="the tuned network (default: beside the report)")
    add_data(parser)
    add_out(parser, "finetune")


def run(args: argparse.Namespace) -> int:
    folder = data_folder(args)
    machine = start(args)
    data, held = (
        fashion(folder / "fashion-mnist", "train", args.samples),
        fashion(folder / "fashion-mnist", "t10k", args.held),
    )
    graph = new_head(
        load(folder / "models" / "resnet20-cifar10" / "resnet20_cifar10.onnx").graph, CLASSES, seed=args.seed
    )
    tuned = Model(graph)
    accuracy = {"pretrained": accuracies("pretrained", tuned, data, held, args)}
    path = args.save or args.out.with_suffix(".onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    tuned.save(path)
    scratch = Model(from_scratch(graph, args.seed))
    accuracy["from scratch"] = accuracies("from scratch", scratch, data, held, args)
    columns = ("start", *(f"epoch {number + 1}" for number in range(args.epochs)))
    print("\n" + table(columns, [[key, *each] for key, each in accuracy.items()]))
    same = same_as_onnxruntime(path, graph, held, args.threads)
    print(f"{path}: {same['pictures']} pictures beside onnxruntime, largest difference {same['max_abs']:.2g}")
    finish(args, machine, [*({"start": key, "accuracy": each} for key, each in accuracy.items()), same])
    if accuracy["pretrained"][-1] <= accuracy["from scratch"][-1]:
        raise Disagreement("the pretrained network does not beat the one from scratch")
    return 0


def fashion(folder: Path, part: str, count: int) -> Dataset:
    """The first pictures of a part ("train" or "t10k") of Fashion-MNIST, as resnet20-cifar10 takes them: float32 (N, 3,
    32, 32).
    """
    pixels = read_idx(folder / f"{part}-images-idx3-ubyte.gz")[:count]
    t = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")[:count]
    wide = np.repeat(np.pad(pixels, ((0, 0), (2, 2), (2, 2)))[..., None], 3, axis=-1)
    return PixelDataset(wide, t, preprocessing=Preprocessing(mean=CIFAR_MEAN, std=CIFAR_STD))


def from_scratch(graph: Graph, seed: int) -> Graph:
    """A copy whose weights begin anew: He's normal ones for Conv and Gemm, zero biases, fresh batch norms."""
    graph, rng = graph.copy(), np.random.default_rng(seed)
    for node in graph.nodes:
        names = node.inputs[1:]
        if node.op == "BatchNormalization":
            for name, value in zip(names, STATISTICS, strict=True):
                graph.initializers[name] = np.full_like(graph.initializers[name], value)
        elif node.op in ("Conv", "Gemm"):
            graph.initializers[names[0]] = he_normal(graph.initializers[names[0]].shape, rng)
            for name in filter(None, names[1:]):
                graph.initializers[name] = np.zeros_like(graph.initializers[name])
    return graph


def accuracies(name: str, model: Model, data: Dataset, held: Dataset, args: argparse.Namespace) -> list[float]:
    """Train; returns the accuracy on the held-back pictures after each epoch."""

    def report(epoch: Epoch) -> None:
        print(
            f"{name} epoch {epoch.number}: loss {epoch.loss:.4f}, accuracy {epoch.accuracy:.4f}, {epoch.seconds:.0f} s",
            flush=True,
        )

    trainer = Trainer(model, optimizer=SGD(lr=args.lr, momentum=0.9, weight_decay=1e-4), seed=args.seed)
    options = {"epochs": args.epochs, "batch_size": args.batch_size, "seed": args.seed}
    history = trainer.fit(data, held, after_epoch=report, **options)
    return [float(epoch.accuracy or 0) for epoch in history.epochs]


def same_as_onnxruntime(path: Path, graph: Graph, held: Dataset, threads: int) -> dict[str, Any]:
    """Hold the saved file, loaded again, against onnxruntime, and its nodes against the graph that was trained."""
    model = load(path)
    if layout(model.graph) != layout(graph):
        raise Disagreement(f"{path}: its nodes are not those of the network that was trained")
    x, _ = Subset(held, np.arange(min(COMPARED, len(held)))).batch(np.arange(min(COMPARED, len(held))))
    ours = model(x)
    (theirs,) = session(path, threads).run(None, {model.inputs[0].name: x})
    worst = float(np.abs(ours - theirs).max())
    other = int((ours.argmax(1) != theirs.argmax(1)).sum())
    if not worst <= LOGITS or other:
        raise Disagreement(
            f"{path}: logits differ by {worst:.3g} from onnxruntime's, {other} of {len(x)} classes are others"
        )
    return {"pictures": len(x), "max_abs": worst, "other_classes": other}


def layout(graph: Graph) -> list[tuple[str, str, list[str], list[str]]]:
    """Every node's operator, name, inputs and outputs."""
    return [(n.op, n.name, n.inputs, n.outputs) for n in graph.nodes]
