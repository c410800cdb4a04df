"""These tests run in Numba's CUDA simulator, or on a GPU where NBCNN_CUDA=gpu asks for it."""

from __future__ import annotations

import os

os.environ.setdefault("NBCNN_CUDA", "simulator")
