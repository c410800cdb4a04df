"""Training with activations and gradients kept in 16 bits, beside the same training in float32: LeNet, and a small
residual network, on MNIST and Fashion-MNIST.

On a GPU (--device cuda) its own kernels keep them so. Without one, the processor's kernels compute, in float32, and
whatever a GPU would keep in 16 bits is rounded to it: the accuracy can be told, the speed cannot.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bench.kept_in_halves import emulated
from bench.options import add_data, add_out, data_folder, finish, start
from bench.report import table
from nbcnn.data import Subset, mnist_folder
from nbcnn.devices import HALVES, Device, find_device
from nbcnn.graph import Graph
from nbcnn.model import Model
from nbcnn.optim import SGD, Cosine
from nbcnn.trainer import Trainer
from nbcnn.zoo import GraphBuilder, graph_of

__all__ = ["NETWORKS", "configure", "residual", "run", "train"]

PRECISIONS = ("fp32", *HALVES)


def residual(seed: int) -> Graph:
    """Two residual blocks with batch norms, of 16 and 32 channels, for pictures of 28x28."""
    g = GraphBuilder("residual", (1, 28, 28), seed=seed)
    x = g.relu(g.batch_norm(g.conv(g.input, "stem", 16, kernel=3, pad=1, bias=False), "stem_bn"))
    for number, width in enumerate((16, 32)):
        with g.scope(f"block{number}"):
            stride = 1 + number
            y = g.relu(g.batch_norm(g.conv(x, "conv1", width, kernel=3, stride=stride, pad=1, bias=False), "bn1"))
            y = g.batch_norm(g.conv(y, "conv2", width, kernel=3, pad=1, bias=False), "bn2")
            if stride > 1:
                x = g.batch_norm(g.conv(x, "shortcut", width, kernel=1, stride=stride, bias=False), "shortcut_bn")
            x = g.relu(g.add(x, y))
    return g.finish(g.gemm(g.flatten(g.global_average_pool(x)), "fc", 10))


NETWORKS: dict[str, Callable[[int], Graph]] = {"lenet": lambda seed: graph_of("lenet", seed=seed), "residual": residual}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nets", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--sets", nargs="+", choices=["mnist", "fashion-mnist"], default=["mnist", "fashion-mnist"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--samples", type=int, help="train on so many pictures only (default: all 60,000)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    add_data(parser)
    add_out(parser, "halves")


def run(args: argparse.Namespace) -> int:
    machine = start(args)
    machine["device"] = args.device
    rows = []
    for name in args.sets:
        data, held = mnist_folder(data_folder(args) / name)
        train_set: Any = data if args.samples is None else Subset(data, range(args.samples))  # type: ignore[arg-type]
        for net in args.nets:
            for precision in PRECISIONS:
                runs = [train(net, seed, precision, train_set, held, args) for seed in args.seeds]
                rows.append({"data": name, "network": net, "precision": precision, "runs": runs})
                print(*cells(rows[-1]), flush=True)
    print("\n" + table(COLUMNS, [cells(row) for row in rows]))
    finish(args, machine, rows)
    return 0


@contextmanager
def _device(where: str, precision: str) -> Iterator[Device]:
    if where == "cuda" or precision == "fp32":
        yield find_device(where, precision=precision)
    else:
        with emulated(precision) as device:
            yield device


def train(net: str, seed: int, precision: str, data: Any, held: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Train one network from one seed; returns its accuracy by epoch, and the steps that were skipped."""
    begin = time.monotonic()
    with _device(args.device, precision) as device:
        steps = args.epochs * -(-len(data) // args.batch_size)
        model, schedule = Model(NETWORKS[net](seed), device=device), Cosine(steps)
        trainer = Trainer(model, optimizer=SGD(lr=0.05, momentum=0.9), schedule=schedule)
        history = trainer.fit(data, held, epochs=args.epochs, batch_size=args.batch_size, seed=seed)
    return {
        "seed": seed,
        "accuracy_by_epoch": [epoch.accuracy for epoch in history.epochs],
        "loss_by_epoch": [epoch.loss for epoch in history.epochs],
        "skipped": trainer.scale.skipped if trainer.scale else 0,
        "factor": trainer.scale.factor if trainer.scale else None,
        "seconds": time.monotonic() - begin,
    }


COLUMNS = ("data", "network", "precision", "accuracy by seed, %", "loss by seed", "steps skipped")


def cells(row: dict[str, Any]) -> list[Any]:
    last = [f"{100 * one['accuracy_by_epoch'][-1]:.2f}" for one in row["runs"]]
    losses = [f"{one['loss_by_epoch'][-1]:.4f}" for one in row["runs"]]
    skipped = " ".join(str(one["skipped"]) for one in row["runs"])
    return [row["data"], row["network"], row["precision"], " ".join(last), " ".join(losses), skipped]
