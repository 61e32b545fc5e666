"""Declare the bundled model zoo-tiny and the multiple-choice task that belongs to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo import hookimpl

ZOO_API = 1

HERE = Path(__file__).parent


@hookimpl
def register_families(register: Callable[[Any], None]) -> None:
    """Register the family ``tiny``, whose one model has its weights beside this file."""
    register(HERE / "tiny.yaml")


@hookimpl
def register_tasks(register: Callable[[str, Any], None]) -> None:
    """Register the task ``zoo_tiny_choice`` by its lm-evaluation-harness YAML."""
    register("zoo_tiny_choice", HERE / "task" / "zoo_tiny_choice.yaml")
