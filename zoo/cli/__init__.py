"""The command line; ``app`` is the whole of it, made on first use, since plugins' commands take their options here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.cli.root import app as app


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module 'zoo.cli' has no attribute {name!r}")
    from zoo.cli.root import app

    return app
