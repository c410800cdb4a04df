"""Mutated model files: each must load and run, or fail with an NbcnnError. Ends with 1 where one does anything else.

Cases run in child processes, which may take no more than 1 GiB of address space beyond what they begin with, and no
longer than --limit seconds for a case. A case is a function of the seed and its number alone.
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.mutations import mutate
from bench.options import add_out, finish, start

__all__ = ["configure", "run", "sources", "verdict"]

MEMORY = 1 << 30
"""Bytes of address space that a case may take."""
LARGEST_SOURCE, LARGEST_INPUT = 20_000, 1 << 18
"""Bytes of a file that is mutated; elements of an input that is fed."""


def configure(parser: argparse.ArgumentParser) -> None:
    add_out(parser, "fuzz")
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that a case may take")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    if args.child:
        return child(args)
    machine = start(args)
    outcomes = Counter[str]()
    wrong: list[dict[str, object]] = []
    for number, outcome in outcomes_of(args):
        kind = outcome.partition(": ")[0]
        outcomes[kind] += 1
        if kind not in GOOD:
            wrong.append({"case": number, "outcome": outcome})
            print(f"case {number}: {outcome}", file=sys.stderr, flush=True)
        if (number + 1 - args.first) % 1000 == 0:
            print(f"{number + 1 - args.first} cases: {dict(outcomes)}", flush=True)
    print(f"{args.cases} cases: " + ", ".join(f"{count} {kind}" for kind, count in outcomes.most_common()))
    finish(args, machine, [{"outcomes": dict(outcomes)}, *wrong])
    return 1 if wrong else 0


GOOD = ("ran", "loaded", "FileError", "InputError", "ModelError", "UnsupportedError", "UndeterminedError")


def outcomes_of(args: argparse.Namespace) -> Iterator[tuple[int, str]]:
    """Number and outcome of every case; a child that dies or hangs is replaced, and the case it was at named."""
    number, stop = args.first, args.first + args.cases
    while number < stop:
        command = [sys.executable, "-m", "bench", "fuzz", "--child", "--seed", str(args.seed)]
        command += ["--first", str(number), "--cases", str(stop - number), "--threads", str(args.threads)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stderr is not None
            os.set_blocking(process.stderr.fileno(), False)
            patience = 600.0  # it warms up first
            while number < stop:
                ready, _, _ = select.select([process.stdout], [], [], patience)
                line = process.stdout.readline() if ready else b""
                if not line:
                    process.kill()
                    process.wait()
                    how = f"died of signal or exit {process.returncode}" if ready else f"took over {patience:g} s"
                    noise = (process.stderr.read() or b"").decode(errors="replace").strip().splitlines()[-3:]
                    yield number, f"{'crash' if ready else 'hang'}: {how}; {' | '.join(noise)}"
                    number += 1
                    break
                if line.startswith(b"case "):
                    patience = args.limit
                    yield number, line.decode(errors="replace").strip().partition(" ")[2].partition(" ")[2]
                    number += 1
                _drain(process)


def _drain(process: subprocess.Popen[bytes]) -> None:
    """Keep a child's warnings from filling the pipe."""
    assert process.stderr is not None
    if select.select([process.stderr], [], [], 0)[0]:
        os.read(process.stderr.fileno(), 1 << 16)


def child(args: argparse.Namespace) -> int:
    """Run the cases one by one, a line each."""
    warnings.simplefilter("ignore")
    found = sources()
    for content in found[:: max(1, len(found) // 300)]:
        verdict(content, np.random.default_rng(0))  # kernels are compiled and loaded before memory is limited
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))
    for number in range(args.first, args.first + args.cases):
        rng = np.random.default_rng([args.seed, number])
        content = mutate(found[int(rng.integers(len(found)))], rng)
        print(f"case {number} {verdict(content, rng)}", flush=True)
    return 0


def sources() -> list[bytes]:
    """Small valid models: onnx's node tests, its networks and operators from PyTorch, two classifiers."""
    from onnx.backend.test.loader import load_model_tests

    import nbcnn
    from nbcnn.onnx_io import to_proto

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the computation of what is expected
        kinds = ("node", "simple", "pytorch-operator", "pytorch-converted")
        cases = [case for kind in kinds for case in load_model_tests(kind=kind)]
    models = [
        c.model.SerializeToString() if c.model else (Path(c.model_dir) / "model.onnx").read_bytes() for c in cases
    ]
    models += [to_proto(nbcnn.zoo.lenet(size=8).graph).SerializeToString()] * 30
    return [content for content in models if len(content) <= LARGEST_SOURCE]


def verdict(content: bytes, rng: np.random.Generator) -> str:
    """What becomes of a model: "ran", "loaded" (where it has inputs that are too large to feed), or an error."""
    import nbcnn
    from nbcnn.errors import NbcnnError

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.onnx"
            path.write_bytes(content)
            model = nbcnn.load(path if rng.random() < 0.5 else content)
            feeds = feeds_for(model, rng)
            if feeds is None:
                return "loaded"
            model.run(None, feeds)
            return "ran"
    except NbcnnError as error:
        line = str(error)
        return (
            f"unclear: {type(error).__name__} of several lines: {line!r}"
            if "\n" in line
            else f"{type(error).__name__}: {line}"
        )
    except BaseException as error:
        place = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)][-4:]
        return f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:200]} ({' '.join(place)})"


def feeds_for(model: object, rng: np.random.Generator) -> dict[str, np.ndarray] | None:
    """Random inputs of the shapes that a model declares, 2 for what is open; None where they are too large."""
    feeds = {}
    for port in model.inputs:  # type: ignore[attr-defined]
        shape = [d if isinstance(d, int) else 2 for d in port.shape or ()]
        if any(not 0 <= d <= LARGEST_INPUT for d in shape) or np.prod(shape, dtype=object) > LARGEST_INPUT:
            return None
        kind = np.dtype("float32" if port.dtype in ("?", "object", "bfloat16") else port.dtype)
        feeds[port.name] = rng.integers(-2, 3, shape).astype(kind)
    return feeds
