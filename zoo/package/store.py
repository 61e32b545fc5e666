"""The packages under ``$ZOO_HOME/packages``: which models were built, in which precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo.declarations.base import Value
from zoo.declarations.recipe import Recipe
from zoo.errors import ZooError
from zoo.home import packages_folder
from zoo.package.folder import read_manifest_bytes
from zoo.package.hashes import name_contents


class StoredPackage(Value):
    """A package in the store, as its ``zoo.json`` names it."""

    model: str
    family: str | None
    precision: str
    target: str
    recipe_hash: str
    hub: str | None
    """The hub repository of its weights."""
    digest: str | None
    """The digest of its weights; None in packages of format 1."""
    contents: str
    """Names its files, as its manifest states them."""
    path: Path


def read_labels(folder: Path) -> StoredPackage | None:
    """Read the labels of a package; a folder that is none is passed over, opening it will say why."""
    try:
        data: Any = json.loads(read_manifest_bytes(folder))
        recipe = data["recipe"]
        return StoredPackage(
            model=recipe["model"],
            family=recipe.get("family"),
            precision=recipe["precision"],
            target=recipe["target"]["name"],
            recipe_hash=data["recipe_hash"],
            hub=recipe["weights"].get("hub"),
            digest=recipe["weights"].get("digest"),
            contents=name_contents({name: record["sha256"] for name, record in data["files"].items()}),
            path=folder,
        )
    except (ZooError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def stored_packages() -> list[StoredPackage]:
    """List the packages of the store, by folder name."""
    folder = packages_folder()
    if not folder.is_dir():
        return []
    labels = (read_labels(entry) for entry in sorted(folder.iterdir()) if not entry.name.startswith("."))
    return [package for package in labels if package is not None]


def output_folder(recipe: Recipe) -> Path:
    """Name the folder of the store that a recipe is built into."""
    return packages_folder() / f"{recipe.model}-{recipe.precision}-{recipe.hash[:12]}"
