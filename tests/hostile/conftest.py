"""Small packages to attack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builds import architecture, make_recipe, registry, write_checkpoint
from zoo.package.folder import Package
from zoo.sources.folder import open_folder
from zoo.stages.build import build


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder that builds in milliseconds."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "ck", architecture())


@pytest.fixture
def make(checkpoint: Path) -> Callable[..., Package]:
    """Build a small package."""

    def made(output: Path, precision: str = "int8", *, force: bool = False) -> Package:
        opened = open_folder(checkpoint)
        recipe = make_recipe(architecture(), precision)
        return build(recipe, opened, output, registry(), force=force, warn=lambda line: None)

    return made
