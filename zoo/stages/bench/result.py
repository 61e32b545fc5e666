"""What a measurement came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.bench.measure import BenchRow, Skipped
from zoo.declarations.report import Report
from zoo.errors import ZooError


@dataclass(frozen=True)
class Bench:
    """What was measured."""

    subject: str
    """The package's name, or the model's at a server."""
    settings: dict[str, Any]
    """What was asked for: two measurements that share it can be compared."""
    rows: list[BenchRow]
    """Figures, one a workload."""
    skipped: list[Skipped]
    load_s: float | None = None
    """Seconds until the package was open; a server's is not seen."""
    peak_rss_bytes: int | None = None
    """The most memory that this process has had since it began; a server's is not seen."""
    report: Report | None = None
    """Absent for a server: nobody knows the recipe of what it serves."""
    path: Path | None = None
    """Where the report is."""

    @property
    def measured(self) -> dict[str, Any]:
        """The figures as a report keeps them: the workload of the highest output throughput first, then every row."""
        best = max(self.rows, key=lambda row: row.output_throughput)
        throughputs = ("output_throughput", "decode_throughput", "total_token_throughput")
        return {
            "load_s": self.load_s,
            "peak_rss_bytes": self.peak_rss_bytes,
            "highest": {"label": best.label} | {name: getattr(best, name) for name in throughputs},
            "workloads": [row.model_dump(mode="json") for row in self.rows],
            "skipped": [workload.model_dump(mode="json") for workload in self.skipped],
        }


def require_rows(rows: Sequence[BenchRow], skipped: Sequence[Skipped]) -> None:
    """Refuse a measurement of nothing.

    Raises:
        ZooError: with the first reason.
    """
    if rows:
        return
    first = skipped[0]
    others = f" (and {len(skipped) - 1} more workloads)" if len(skipped) > 1 else ""
    raise ZooError(f"nothing could be measured: {first.label}: {first.reason}{others}")
