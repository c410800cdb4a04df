"""A process that runs a network for a while, when it is told to: `python -m bench.worker nbcnn MODEL.onnx 1,3,224,224`.

It prints "ready" when it is warm, waits for a line of input, runs for --seconds, and prints as JSON how many runs it
made in a second, and the CPU time of the second after the last one, in which it does nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np

from nbcnn.report.probe import SIDES

REST = 1.0
"""Seconds that it is watched doing nothing."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.worker", description=__doc__)
    parser.add_argument("side", choices=sorted(SIDES))
    parser.add_argument("path")
    parser.add_argument("shape", help="of its input `input`, such as 1,3,224,224")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    shape = tuple(int(n) for n in args.shape.split(","))
    feeds = {"input": np.random.default_rng(0).standard_normal(shape, dtype=np.float32)}
    run = SIDES[args.side](args.path, args.threads, False)
    for _ in range(3):
        run(feeds)
    print("ready", flush=True)
    sys.stdin.readline()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < args.seconds:
        run(feeds)
        count += 1
    rate = count / (time.perf_counter() - begin)
    time.sleep(REST)  # until the other process is done, too
    run(feeds)
    before = time.process_time()
    time.sleep(REST)
    print(json.dumps({"rate": rate, "idle_seconds": time.process_time() - before}), flush=True)


if __name__ == "__main__":
    main()
