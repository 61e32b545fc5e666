"""Rows → CSV, one line a workload."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from zoo.bench.measure import BenchRow

FIRST = ("label", "input_len", "output_len", "concurrency", "prompts")


def csv_text(rows: Sequence[BenchRow]) -> str:
    """Write rows with a header; what was asked for comes first, lists and counts by reason are texts."""
    columns = [*FIRST, *(name for name in BenchRow.model_fields if name not in FIRST)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(getattr(row, name)) for name in columns])
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, dict):
        return "; ".join(f"{count} × {what}" for what, count in value.items())
    if isinstance(value, tuple):
        return " ".join(str(item) for item in value)
    return "" if value is None else value
