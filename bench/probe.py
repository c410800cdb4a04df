"""Memory of one side in a process of its own: `python -m bench.probe nbcnn|onnxruntime MODEL.onnx --threads N`.

The network is loaded and run once and dropped again, so that kernels, libraries and thread stacks are there already,
and what is free is given back to the system. Then the anonymous resident memory (RssAnon of /proc/self/status; Linux
only) is read, the network loaded and run three times, and read again, with nothing given back that the side keeps.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main", "resident_bytes"]

RUNS = 3
INPUT = (1, 3, 224, 224)


def resident_bytes() -> int:
    """RssAnon of this process: memory that no file backs."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon")


def _nbcnn(path: str, threads: int) -> Callable[[np.ndarray], Any]:
    from nbcnn.api import load, set_num_threads

    set_num_threads(threads)
    return load(path)


def _onnxruntime(path: str, threads: int) -> Callable[[np.ndarray], Any]:
    from bench.peers import session

    peer = session(path, threads)
    name = peer.get_inputs()[0].name
    return lambda x: peer.run(None, {name: x})


SIDES = {"nbcnn": _nbcnn, "onnxruntime": _onnxruntime}


def settle() -> None:
    """Give free memory back to the system, so that it is not counted, nor taken again unseen."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def measure(side: str, path: str, threads: int) -> dict[str, int]:
    """Bytes before, added by loading, added by loading and running, and of that once trimmed."""
    x = np.random.default_rng(0).standard_normal(INPUT, dtype=np.float32)
    network = SIDES[side](path, threads)
    network(x)
    del network
    settle()
    before = resident_bytes()
    network = SIDES[side](path, threads)
    loaded = resident_bytes()
    for _ in range(RUNS):
        network(x)
    after = resident_bytes()
    settle()
    return {"before": before, "loaded": loaded - before, "added": after - before, "needed": resident_bytes() - before}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.probe", description=__doc__)
    parser.add_argument("side", choices=sorted(SIDES))
    parser.add_argument("path")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    print(json.dumps(measure(args.side, args.path, args.threads)))


if __name__ == "__main__":
    main()
