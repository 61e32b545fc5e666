"""Where the zoo keeps things: ``$ZOO_HOME``, by default ``~/.cache/zoo``."""

from __future__ import annotations

import os
from pathlib import Path


def zoo_home() -> Path:
    """Find the folder that holds packages, reports and caches."""
    configured = os.environ.get("ZOO_HOME")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "zoo"


def packages_folder() -> Path:
    """Find the folder that builds go to unless told otherwise."""
    return zoo_home() / "packages"


def reports_folder(recipe_hash: str) -> Path:
    """Find the folder of the reports on one build."""
    return zoo_home() / "reports" / recipe_hash
