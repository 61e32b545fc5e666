"""Fields of a request that are options of the command line too: declared once, with their help."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def option(default: Any, help: str, **spelling: Any) -> Any:
    """Declare a field of a request's dataclass that a command takes as an option.

    Args:
        default: its value where the option is not given.
        help: what ``--help`` says of it.
        spelling: what ``typer.Option`` takes beside (``metavar``, ``min``, ``max``, ``parser``), and ``flag`` where the
            option is not called as the field.
    """
    return field(default=default, metadata={"help": help, **spelling})
