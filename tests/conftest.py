"""Settings that hold for every test."""

from __future__ import annotations

import os

# OpenMP reads this when the first kernel loads it. Its threads spin while they wait for each other, for milliseconds at
# each kernel where there are more of them than cores (`pytest -n 2`, or anything else that runs beside the tests): the
# tests of tiny arrays took ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
