"""Networks that onnxruntime's tool has quantized to bytes, beside onnxruntime and beside their float32 form.

Ends with 1 where a result is more than one step of its quantization away from onnxruntime's, or where bytes are slower
than floats. Calibrated on normal inputs, which is all that speed needs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.networks import inputs_of, onnx_file
from bench.options import add_data, add_timing, data_folder, finish, plan_of, start
from bench.report import table
from nbcnn.api import load
from nbcnn.model import Model
from nbcnn.report.peer import session
from nbcnn.report.timing import Plan, Side, compare

__all__ = ["configure", "quantize", "run"]

NETS = {
    "resnet20": "models/resnet20-cifar10/resnet20_cifar10.onnx",
    "mobilenet": "models/mobilenet-v2/mobilenet-v2.onnx",
}
"""Name -> path in the folder of real data."""
OURS, FLOATS, THEIRS = "nbcnn int8", "nbcnn float32", "onnxruntime int8"
COLUMNS = (
    "network",
    "batch",
    "nbcnn int8 ms",
    "nbcnn float32 ms",
    "onnxruntime int8 ms",
    "by float32",
    "ratio",
    "steps",
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nets", nargs="+", choices=NETS, default=[*NETS])
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    add_data(parser)
    add_timing(parser, "quantized")


def run(args: argparse.Namespace) -> int:
    machine = start(args)
    rows = []
    for name in args.nets:
        floats = load(data_folder(args) / NETS[name])
        with TemporaryDirectory(prefix="nbcnn-bench-") as folder:
            file = quantize(floats, Path(folder) / "quantized.onnx")
            ours, theirs = load(file), session(file, args.threads)
            for batch in args.batches:
                print(f"{name} batch {batch} ...", flush=True)
                rows.append(one(name, floats, ours, theirs, batch, plan_of(args)))
    print("\n" + table(COLUMNS, [cells(row) for row in rows]))
    print("by float32: our float32 median time over that of bytes; ratio: onnxruntime's over ours, both of bytes")
    print("steps: the greatest difference from onnxruntime, in steps of the result")
    finish(args, machine, rows)
    bad = [row["network"] for row in rows if row["steps"] > 1.01 or (row["by_float32"] < 1 and not args.quick)]
    if bad:
        print(f"too far off or too slow: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


def quantize(model: Model, target: Path) -> Path:
    """Write a network as onnxruntime's tool quantizes it: batch norm folded, unsigned activations, a scale for each
    output channel.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Inputs(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter([{model.inputs[0].name: inputs_of(model, 1, seed)} for seed in range(1, 4)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    with onnx_file(model) as path:
        quant_pre_process(path, target, skip_symbolic_shape=True)
    quantize_static(
        target, target, Inputs(), activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True
    )
    return target


def one(name: str, floats: Model, ours: Model, theirs: Any, batch: int, plan: Plan) -> dict[str, Any]:
    """Compare one network at one batch size; returns the report's row."""
    x = inputs_of(floats, batch)
    feeds, float_feeds = {ours.inputs[0].name: x}, {floats.inputs[0].name: x}
    wanted, found = theirs.run(None, feeds)[0], ours.run(None, feeds)[0]
    levels = np.unique(wanted)
    step = float(np.diff(levels).min()) if levels.size > 1 else 1.0
    sides = [
        Side(OURS, lambda: ours.run(None, feeds)),
        Side(FLOATS, lambda: floats.run(None, float_feeds)),
        Side(THEIRS, lambda: theirs.run(None, feeds)),
    ]
    timed = compare(sides, plan)
    return {
        "network": name,
        "batch": batch,
        "timings": {side: timing.as_dict() for side, timing in timed.timings.items()},
        "by_float32": timed.ratio(FLOATS, OURS),
        "ratio": timed.ratio(THEIRS, OURS),
        "steps": float(np.abs(found - wanted).max()) / step,
    }


def cells(row: dict[str, Any]) -> list[Any]:
    times = [row["timings"][side]["median_ms"] for side in (OURS, FLOATS, THEIRS)]
    return [row["network"], row["batch"], *times, row["by_float32"], row["ratio"], row["steps"]]
