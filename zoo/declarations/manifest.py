"""``zoo.json``: what a package is, and how to check that it still is."""

from __future__ import annotations

from typing import Literal

from zoo.declarations.base import Sha256, Value
from zoo.declarations.recipe import Recipe


class FileRecord(Value):
    """A file of a package."""

    size: int
    """Bytes."""
    sha256: Sha256


class Manifest(Value):
    """The last file that a build writes; a folder without it is no package."""

    format_version: Literal[1] = 1
    recipe: Recipe
    recipe_hash: Sha256
    parameters: int
    bits_per_weight: float
    """Stored bits, scales and zero points included, over stored weights."""
    files: dict[str, FileRecord]
    """Every file of the folder but ``zoo.json``, by its path inside the folder."""
    versions: dict[str, str]
    """Versions of the tools that built it: recorded, not hashed."""
