"""``zoo.json``: what a package is, and how to check that it still is."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from zoo.declarations.base import Blake3, Sha256, Value, digest
from zoo.declarations.memory import RunMemory
from zoo.declarations.recipe import Recipe


class FileRecord(Value):
    """A file of a package."""

    size: int
    """Bytes."""
    sha256: Sha256


class Manifest(Value):
    """The last file that a build writes; a folder without it is not a package."""

    format_version: Literal[1, 2] = 2
    recipe: Recipe
    recipe_hash: Sha256
    parameters: int
    bits_per_weight: float
    """Stored bits, scales and zero points included, over stored weights."""
    files: dict[str, FileRecord]
    """Every file of the folder but ``zoo.json``, by its path inside the folder."""
    memory: RunMemory | None = None
    """What it takes while it runs; None where an older zoo built it, or other programs run it."""
    inputs: dict[str, Blake3] = Field(default_factory=dict)
    """BLAKE3 of every tensor of the checkpoint, row after row as it stores them; empty in packages of format 1 and in
    those that hold no weights."""
    notes: tuple[str, ...] = ()
    """What a reader should know of how it was built, a line each."""
    versions: dict[str, str]
    """Versions of the tools that built it: recorded, not hashed."""


_LABELS = ("model", "family", "licence")
"""Fields of a recipe that name it and decide nothing."""


def parse_manifest(raw: bytes) -> Manifest:
    """Read a manifest of this format or of the first one.

    Raises:
        ValueError: it is not JSON, or not a manifest; pydantic's ``ValidationError`` is one.
        HashMismatch: its recipe does not have the hash that it states.
    """
    data: Any = json.loads(raw)
    recipe_hash = None
    if isinstance(data, dict) and data.get("format_version") == 1:
        data, recipe_hash = _first_format(data)
        raw = json.dumps(data).encode()
    manifest = Manifest.model_validate_json(raw)
    if (recipe_hash or manifest.recipe.hash) != manifest.recipe_hash:
        raise HashMismatch("its recipe does not have the hash it states")
    return manifest


class HashMismatch(ValueError):
    """A manifest whose recipe was edited."""


def _first_format(data: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Bring a manifest of format 1 into today's fields; return it, and the hash that its recipe had then.

    There the weights had a ``fingerprint`` over headers and sizes, which says less than today's digest does.
    """
    recipe = data.get("recipe")
    if not isinstance(recipe, dict):
        return data, None
    hashed = {name: value for name, value in recipe.items() if name not in _LABELS}
    if not hashed.get("allow_nonfinite"):
        hashed.pop("allow_nonfinite", None)
    weights = recipe.get("weights")
    if isinstance(weights, dict):
        recipe = {**recipe, "weights": {"digest" if k == "fingerprint" else k: v for k, v in weights.items()}}
    return {**data, "recipe": recipe}, digest(hashed)
