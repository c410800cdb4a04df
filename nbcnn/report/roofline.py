"""The roofline: what a machine allows for work of a certain intensity.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore architectures",
Communications of the ACM 52(4), 2009: at most min(ceiling of arithmetic, intensity * memory bandwidth).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbcnn.report.arithmetic import Work

__all__ = ["Roofline"]


@dataclass(frozen=True)
class Roofline:
    """gflops: GFLOP/s of multiply-adds on registers. gbytes: GB/s of the memory triad."""

    gflops: float
    gbytes: float

    @classmethod
    def of(cls, machine: dict[str, Any]) -> Roofline | None:
        """That of a report's machine at the report's threads; None where it was not measured."""
        threads = str(machine["threads"])
        gflops, gbytes = machine["fma_gflops"].get(threads), machine["triad_gbytes"].get(threads)
        return cls(float(gflops), float(gbytes)) if gflops and gbytes else None

    @property
    def ridge(self) -> float:
        """The intensity, in operations a byte, from which on arithmetic is the bound."""
        return self.gflops / self.gbytes

    def attainable(self, intensity: float) -> float:
        """GFLOP/s at most."""
        return min(self.gflops, intensity * self.gbytes)

    def seconds(self, work: Work) -> float:
        """The least time that the work takes."""
        return max(work.flops / self.gflops, work.bytes / self.gbytes) / 1e9

    def bound(self, work: Work) -> str:
        """What the least time is due to: "arithmetic" or "memory"."""
        return "arithmetic" if work.intensity >= self.ridge else "memory"
