"""Memory of one side in a process of its own: `python -m nbcnn.report.probe SIDE MODEL.onnx --threads N --input
NAME=TYPE:1,3,224,224`, with a side of SIDES.

The network is loaded and run once and dropped again, so that kernels, libraries and thread stacks are there already,
and what is free is given back to the system. Then the anonymous resident memory (RssAnon of /proc/self/status; Linux
only) is read, the network loaded and run three times, and read again, with nothing given back that the side keeps.
The peak is that of all resident memory (VmHWM), pages of files among it.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nbcnn.errors import NbcnnError

__all__ = ["SIDES", "ask", "main", "measure", "measure_apart", "resident_bytes"]

RUNS = 3
Feeds = Mapping[str, np.ndarray]


def resident_bytes(kind: str = "RssAnon") -> int:
    """Resident memory of this process: RssAnon is what no file backs. Raises OSError elsewhere than on Linux."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {kind}")


def forget_peak() -> None:
    """Let VmHWM begin anew (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def measure_apart(side: str, path: Path, threads: int, feeds: Feeds, *, exact: bool = False) -> dict[str, int] | None:
    """`measure` in a new process, for inputs like these; None elsewhere than on Linux.

    Raises NbcnnError with what the process said, when it fails.
    """
    if sys.platform != "linux":
        return None
    command = [sys.executable, "-m", "nbcnn.report.probe", side, str(path), "--threads", str(threads)]
    command += ["--exact"] if exact else []
    for name, array in feeds.items():
        command += ["--input", f"{name}={array.dtype.name}:{','.join(map(str, array.shape))}"]
    return ask(command)


def ask(command: list[str], folder: Path | None = None) -> dict[str, int]:
    """What a command, run in this folder, prints as JSON. Raises NbcnnError with what it said, when it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        *_, last = ["it said nothing", *done.stderr.splitlines()]
        raise NbcnnError(f"the process that measures memory ended with {done.returncode}: {last}")
    answer: dict[str, int] = json.loads(done.stdout)
    return answer


def _nbcnn(path: str, threads: int, exact: bool) -> Callable[[Feeds], Any]:
    from nbcnn.api import load, set_num_threads

    set_num_threads(threads)
    model = load(path, exact=exact)
    return lambda feeds: model.run(None, feeds)


def _onnxruntime(path: str, threads: int, exact: bool) -> Callable[[Feeds], Any]:
    from nbcnn.report.peer import session

    peer = session(path, threads)
    return lambda feeds: peer.run(None, dict(feeds))


def _training(path: str, threads: int, exact: bool) -> Callable[[Feeds], Any]:
    from nbcnn.api import load, set_num_threads
    from nbcnn.report.step import RandomStep

    set_num_threads(threads)
    model = load(path, exact=exact)
    steps: list[RandomStep] = []  # made by the first call, which gives the shapes

    def run(feeds: Feeds) -> float:
        if not steps:
            steps.append(RandomStep(model, feeds))
        return steps[0]()

    return run


SIDES = {"nbcnn": _nbcnn, "onnxruntime": _onnxruntime, "training": _training}
"""Name -> what loads a network and gives the call that runs it; "training" is a step of ours."""


def settle() -> None:
    """Give free memory back to the system, so that it is not counted, nor taken again unseen."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def measure(load: Callable[[], Callable[[], Any]]) -> dict[str, int]:
    """Bytes before, added by loading, added by loading and running, of that what is left once trimmed, and the peaks.

    load: loads the network and returns the call that runs it.
    """
    network = load()
    network()
    del network
    settle()
    before, total = resident_bytes(), resident_bytes("VmRSS")
    forget_peak()
    network = load()
    loaded, load_peak = resident_bytes(), resident_bytes("VmHWM")
    for _ in range(RUNS):
        network()
    after, peak = resident_bytes(), resident_bytes("VmHWM")
    settle()
    return {
        "before": before,
        "loaded": loaded - before,
        "added": after - before,
        "needed": resident_bytes() - before,
        "load_peak": load_peak - total,
        "peak": peak - total,
    }


def _input(text: str) -> tuple[str, np.ndarray]:
    """An array for NAME=TYPE:1,3,224,224: ones, or for floats numbers from a seed."""
    name, _, declared = text.rpartition("=")
    kind, _, dims = declared.partition(":")
    shape = tuple(int(n) for n in dims.split(",")) if dims else ()
    if np.dtype(kind).kind == "f":
        return name, np.random.default_rng(0).standard_normal(shape).astype(kind)
    return name, np.ones(shape, kind)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nbcnn.report.probe", description=__doc__)
    parser.add_argument("side", choices=sorted(SIDES))
    parser.add_argument("path")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--input", type=_input, action="append", required=True, metavar="NAME=TYPE:1,3,224,224")
    parser.add_argument("--exact", action="store_true")
    args = parser.parse_args()
    feeds = dict(args.input)

    def load() -> Callable[[], Any]:
        network = SIDES[args.side](args.path, args.threads, args.exact)
        return lambda: network(feeds)

    print(json.dumps(measure(load)))


if __name__ == "__main__":
    main()
