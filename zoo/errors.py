"""Errors that a user can cause, and the exit codes they end in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from zoo.terminal import one_line


class ZooError(Exception):
    """Report a failed operation in one line that says what is wrong, where, and what to do (exit code 1).

    Args:
        message: may quote a stranger's text; line breaks and control characters are escaped, so it stays one line.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class UsageError(ZooError):
    """Report a wrong request, an unknown name or a value outside its choices, in one line (exit code 2)."""

    exit_code = 2


class WeightsAbsent(ZooError):
    """Report weights that are not on this machine where none may be fetched (exit code 1)."""


class EngineEnded(ZooError):
    """Report an engine's program that died or was ended while it answered; a later request starts it again."""


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> UsageError:
    """Build the error for a name that nobody declared, offering the nearest ones.

    Args:
        kind: what the name should have been, for example ``model``.
        name: what was asked for.
        known: every name that would have been right.
        hint: what to do when nothing is near.
    """
    choices = sorted(set(known))
    lowered = {choice.lower(): choice for choice in choices}
    near = [lowered[match] for match in difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)]
    if near:
        advice = f"did you mean {' or '.join(near)}?"
    elif choices and len(choices) <= 12:
        advice = f"known: {', '.join(choices)}"
    elif hint:
        advice = hint
    else:
        advice = f"none of the {len(choices)} that there are is like it" if choices else "there are none"
    if near and hint:
        advice = f"{advice} ({hint})"
    return UsageError(f"unknown {kind} {name!r}; {advice}")
