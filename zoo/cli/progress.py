"""Draw a build's progress on stderr: layer, bytes, rate, time left, memory; nothing where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from zoo.cli.output import bytes_text

if TYPE_CHECKING:
    from zoo.package.stream import Progress


def _line(step: Progress) -> str:
    """Write one state of a build as a line."""
    where = step.parameter if step.layer is None else f"layer {step.layer + 1}/{step.layers}"
    left = f"  {step.eta:.0f} s left" if step.eta is not None else ""
    return (
        f"{where:<16} {bytes_text(step.bytes_done)} of {bytes_text(step.bytes_total)}  {bytes_text(step.rate)}/s"
        f"{left}  RSS {bytes_text(step.rss)}"
    )


@contextmanager
def build_progress() -> Iterator[Callable[[Progress], None] | None]:
    """Give the callback that a build reports to."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as ProgressBar

    bar = ProgressBar(
        BarColumn(bar_width=24),
        TextColumn("{task.description}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=1.0)

        def report(step: Progress) -> None:
            share = step.bytes_done / step.bytes_total if step.bytes_total else 0.0
            bar.update(task, completed=share, description=_line(step))

        yield report
