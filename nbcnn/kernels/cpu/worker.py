"""A process that compiles kernels for another one: `python -m nbcnn.kernels.cpu.worker`, started by ahead.py.

It reads pickled jobs from its standard input, and writes a byte for each to its standard output: "+" when the machine
code is on disk, "-" when it is not. It ends when its input does, at once: the process that it works for may have died.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from queue import SimpleQueue
from threading import Thread
from typing import BinaryIO

from nbcnn.kernels.cpu.ahead import Job

__all__ = ["main"]


def _read(source: BinaryIO, jobs: SimpleQueue[Job]) -> None:
    while True:
        try:
            jobs.put(pickle.load(source))
        except Exception:
            os._exit(0)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that it works for, which ends this one
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what anything else prints is no answer
    jobs: SimpleQueue[Job] = SimpleQueue()
    Thread(target=_read, args=(sys.stdin.buffer, jobs), daemon=True).start()
    while True:
        job = jobs.get()
        try:
            job.compile()
            answers.write(b"+" if job.dispatcher._cache.has(job.types) else b"-")
        except Exception:
            answers.write(b"-")


if __name__ == "__main__":
    main()
