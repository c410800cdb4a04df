"""What a process does with the cores while it has nothing to compute."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SLEEPS = 5
MOST = 0.02
"""Seconds of CPU time in a second after a call: 1 ms for each thread that looks for more work, and room for whatever
else wakes up in a process. GNU OpenMP by itself takes 0.15 to 0.2.
"""

SCRIPT = """
import time
import numpy as np
import nbcnn
from nbcnn.zoo import graph_of
nbcnn.set_num_threads(2)
model = nbcnn.Model(graph_of("resnet18", size=64, classes=10))
x = np.ones((8, 3, 64, 64), np.float32)
t = np.zeros(8, np.int64)
trainer = nbcnn.Trainer(model)
for action in (lambda: model(x), lambda: trainer.step(x, t)):
    action()
    found = []
    for _ in range(SLEEPS):
        action()
        before = time.process_time()
        time.sleep(1 / SLEEPS)
        found.append(time.process_time() - before)
    print(sum(found))
""".replace("SLEEPS", str(SLEEPS))


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has no threads that wait")
def test_threads_sleep_soon_after_a_call() -> None:
    unset = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "NUMBA_NUM_THREADS"}
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True, capture_output=True, text=True)
    inference, training = map(float, done.stdout.split())
    assert inference < MOST and training < MOST
