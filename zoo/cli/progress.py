"""Draw the progress of builds and downloads on stderr; nothing where stderr is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from zoo.units import bytes_text

if TYPE_CHECKING:
    from zoo.package.stream import Progress
    from zoo.sources.transfer import Arrival


def _line(step: Progress) -> str:
    """Format the progress of a build as one line."""
    where = step.parameter if step.layer is None else f"layer {step.layer + 1}/{step.layers}"
    return (
        f"{where:<16} {bytes_text(step.bytes_done)} of {bytes_text(step.bytes_total)}  {bytes_text(step.rate)}/s"
        f"{seconds_left(step.eta)}  RSS {bytes_text(step.rss)}"
    )


def _arrival_line(arrival: Arrival) -> str:
    """Format the progress of a download as one line."""
    return (
        f"{bytes_text(arrival.bytes_done)} of {bytes_text(arrival.bytes_total)}  "
        f"{bytes_text(arrival.rate)}/s{seconds_left(arrival.eta)}  {arrival.file}"
    )


def _share(step: Progress | Arrival) -> float:
    return step.bytes_done / step.bytes_total if step.bytes_total else 0.0


@contextmanager
def progress_bar() -> Iterator[Callable[[float, str], None] | None]:
    """Return a callback that draws a fraction done (0 to 1) and a line beside it; None if stderr is not a terminal.

    Nothing is drawn before the first call, so that lines printed until then stand undisturbed.
    """
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
    task = bar.add_task("", total=1.0)

    def draw(share: float, line: str) -> None:
        bar.start()
        bar.update(task, completed=share, description=line)

    try:
        yield draw
    finally:
        bar.stop()


@contextmanager
def drawn(describe: Callable[[Any], tuple[float, str]]) -> Iterator[Callable[[Any], None] | None]:
    """Return a progress callback that draws what ``describe`` makes of each step: the fraction done, and a line."""
    with progress_bar() as draw:
        yield draw and (lambda step: draw(*describe(step)))


def build_progress() -> AbstractContextManager[Callable[[Progress], None] | None]:
    """Return the progress callback of a build."""
    return drawn(lambda step: (_share(step), _line(step)))


def fetch_progress() -> AbstractContextManager[Callable[[Arrival], None] | None]:
    """Return the progress callback of a download."""
    return drawn(lambda arrival: (_share(arrival), _arrival_line(arrival)))


def seconds_left(eta: float | None) -> str:
    """Format the time that is left, where it is known."""
    return f"  {eta:.0f} s left" if eta is not None else ""


@contextmanager
def step_progress() -> Iterator[Callable[[str, int, int], None] | None]:
    """Return a callback for (next step, steps done, steps in total), shown as one line on a terminal's stderr."""
    if not sys.stderr.isatty():
        yield None
        return
    shown = False

    def say(what: str, done: int, total: int) -> None:
        nonlocal shown
        shown = True
        sys.stderr.write(f"\r\x1b[K{what} ({done} of {total})")
        sys.stderr.flush()

    try:
        yield say
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
