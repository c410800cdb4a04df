"""The source lecture's two networks on MNIST: 15 epochs, batches of 1000, plain gradient descent, pixels / 255,
cross-entropy.

LeNet (step 0.2) had 147 errors of 10,000 in the lecture, the MLP 784-120-84-10 (step 0.5) 264. Both are trained from
three seeds; the median must not pass the limit: 175 and 290.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.options import add_data, add_out, data_folder, finish, start
from bench.report import table
from nbcnn import zoo
from nbcnn.data import Subset, mnist_folder
from nbcnn.model import Model
from nbcnn.optim import SGD
from nbcnn.trainer import Epoch, Trainer

__all__ = ["RECIPES", "Recipe", "configure", "run", "train"]


@dataclass(frozen=True)
class Recipe:
    """build: seed -> model. lr: the step. lecture: its errors of 10,000; limit: the most that ours may have, in the
    median.
    """

    build: Callable[[int], Model]
    lr: float
    lecture: int
    limit: int


RECIPES = {
    "lenet": Recipe(lambda seed: zoo.lenet(seed=seed), 0.2, 147, 175),
    "mlp": Recipe(lambda seed: zoo.mlp(shape=(1, 28, 28), seed=seed), 0.5, 264, 290),
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nets", nargs="+", choices=sorted(RECIPES), default=["lenet", "mlp"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--samples", type=int, help="train on so many pictures only (default: all 60,000)")
    add_data(parser)
    add_out(parser, "mnist")


def run(args: argparse.Namespace) -> int:
    data, held = mnist_folder(data_folder(args) / "mnist")
    machine = start(args)
    train_set: Any = data if args.samples is None else Subset(data, range(args.samples))  # type: ignore[arg-type]
    rows = []
    for name in args.nets:
        runs = [train(name, seed, train_set, held, args.epochs, args.batch_size) for seed in args.seeds]
        errors = [int(one["errors"]) for one in runs]
        rows.append({"network": name, "median": statistics.median(errors), "errors": errors, "runs": runs})
    print("\n" + table(COLUMNS, [cells(row) for row in rows]))
    finish(args, machine, rows)
    return 0 if all(row["median"] <= RECIPES[row["network"]].limit for row in rows) else 1


def train(name: str, seed: int, data: Any, held: Any, epochs: int, batch_size: int) -> dict[str, Any]:
    """Train one network from one seed; returns its errors on the held-back pictures, at the end and by epoch."""
    recipe = RECIPES[name]
    trainer = Trainer(recipe.build(seed), optimizer=SGD(lr=recipe.lr))
    begin = time.monotonic()

    def report(epoch: Epoch) -> None:
        print(
            f"{name} seed {seed} epoch {epoch.number}: loss {epoch.loss:.4f}, {wrong(epoch, held)} errors", flush=True
        )

    history = trainer.fit(data, held, epochs=epochs, batch_size=batch_size, seed=seed, after_epoch=report)
    each = [wrong(epoch, held) for epoch in history.epochs]
    return {"seed": seed, "errors": each[-1], "errors_by_epoch": each, "seconds": time.monotonic() - begin}


def wrong(epoch: Epoch, held: Any) -> int:
    """Held-back pictures that were misclassified after this epoch."""
    assert epoch.accuracy is not None
    return round((1 - epoch.accuracy) * len(held))


COLUMNS = ("network", "errors by seed", "median", "lecture", "limit", "ok", "seconds each")


def cells(row: dict[str, Any]) -> list[Any]:
    recipe = RECIPES[row["network"]]
    seconds = statistics.median(one["seconds"] for one in row["runs"])
    errors = " ".join(map(str, row["errors"]))
    ok = row["median"] <= recipe.limit
    return [row["network"], errors, row["median"], recipe.lecture, recipe.limit, ok, round(seconds, 1)]
