"""Write a family declaration as YAML."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from zoo import Family, ZooError
from zoo_vastai.documents import dump


def write_family(family: Family, folder: Path, *, force: bool) -> Path:
    """Write ``FAMILY.yaml``, without what is only a default.

    Raises:
        ZooError: there is one already and ``force`` is not set.
    """
    path = folder / f"{family.name}.yaml"
    if path.exists() and not force:
        raise ZooError(f"{path} is there already; --force replaces it, -o writes elsewhere")
    folder.mkdir(parents=True, exist_ok=True)
    raw = dump(_plain(family.model_dump(mode="json", exclude_defaults=True)))
    descriptor, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(raw)
    os.chmod(part, 0o644)
    os.replace(part, path)
    return path


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Order the fields as one reads them: names first, models last."""
    models = value.pop("models")
    return {**value, "models": models}
