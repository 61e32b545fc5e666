"""A catalog of two small families, and reports to show."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from zoo import plugins
from zoo.declarations.report import MachineKind, Report
from zoo.stages.catalog import write_catalog

MACHINE = MachineKind(cpu="A <CPU> & more", cores=2, memory_bytes=8 * 10**9, system="Linux x86_64")


def report(
    kind: str, measured: dict[str, Any], *, model: str = "zoo-tiny", family: str = "tiny", **more: Any
) -> Report:
    """Write down a measurement."""
    fields: dict[str, Any] = {
        "recipe_hash": "a" * 64,
        "precision": "int8",
        "measured_at": datetime(2026, 1, 2, tzinfo=UTC),
        "settings": {},
        "machine": MACHINE,
        "versions": {"python": "3.11"},
        "zoo_version": "0.1.0",
        **more,
    }
    return Report(kind=kind, model="zoo-tiny", family="tiny", measured=measured, **fields)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _few_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load a few of the bundled plugins, and those that the tests install as ``mine``."""
    monkeypatch.setenv("ZOO_PLUGINS", "datasets,llama2,tiny,vastai,mine")
    plugins.host.cache_clear()


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Write a catalog of what is loaded."""

    def write(name: str = "pages", reports: list[Report] | None = None) -> Path:
        output = tmp_path / name
        write_catalog(plugins.host().registry, output, brought_by={}, reports=reports or [])
        return output

    return write
