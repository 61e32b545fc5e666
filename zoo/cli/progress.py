"""Draw a build's progress on stderr: layer, bytes, rate, time left, memory; nothing where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from zoo.cli.output import bytes_text


def _line(step: Any) -> str:
    """Write one state of a build as a line."""
    rate = f"{bytes_text(step.rate)}/s" if step.rate else "-"
    left = f"{step.eta_s:.0f} s left" if step.eta_s is not None else ""
    return (
        f"{step.stage:<18} {bytes_text(step.done_bytes)} of {bytes_text(step.total_bytes)}  {rate}  "
        f"{left}  RSS {bytes_text(step.rss_bytes)}"
    )


@contextmanager
def build_progress() -> Iterator[Callable[[Any], None] | None]:
    """Give the callback that a build reports to."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    bar = Progress(
        BarColumn(bar_width=24),
        TextColumn("{task.description}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=1.0)

        def report(step: Any) -> None:
            share = step.done_bytes / step.total_bytes if step.total_bytes else 0.0
            bar.update(task, completed=share, description=_line(step))

        yield report
