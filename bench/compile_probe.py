"""What a network's first run compiles: `python -m bench.compile_probe infer|step MODEL.onnx`, with a cold cache.

Prints JSON: a row for each kernel and types of arguments, compiled one after the other in this process, with the
processor's seconds that it took and the number of functions that were compiled for it.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numba

from nbcnn.api import load
from nbcnn.compilation import lacking
from nbcnn.report.shapes import input_shapes
from nbcnn.warmup import model_plans

__all__ = ["main"]


class Functions(numba.core.event.Listener):
    """Counts the functions that Numba compiles."""

    def __init__(self) -> None:
        self.count = 0

    def on_start(self, event: Any) -> None:
        self.count += 1

    def on_end(self, event: Any) -> None:
        pass


def measure(path: str, train: bool, batch: int) -> list[dict[str, Any]]:
    network = load(path)
    *_, plan = model_plans(network, input_shapes(network.graph, batch), train)
    rows = []
    for job in lacking(plan.calls):
        functions, start = Functions(), time.thread_time()
        with numba.core.event.install_listener("numba:compile", functions):
            job.compile()
        rows.append({"kernel": job.kernel, "seconds": time.thread_time() - start, "functions": functions.count})
    return sorted(rows, key=lambda row: -float(row["seconds"]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.compile_probe", description=__doc__)
    parser.add_argument("kind", choices=("infer", "step"))
    parser.add_argument("path")
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args()
    print(json.dumps(measure(args.path, args.kind == "step", args.batch)))


if __name__ == "__main__":
    main()
