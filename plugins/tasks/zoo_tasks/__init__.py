"""Declare tasks over local files: the folders of OpenCompass's core data, and the perplexity of a text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo import hookimpl

ZOO_API = 1

HERE = Path(__file__).parent


@hookimpl
def register_tasks(register: Callable[[str, Any], None]) -> None:
    """Register every YAML of this folder by the name of its file."""
    for path in sorted(HERE.rglob("*.yaml")):
        register(path.stem, path)
