"""Plugins in this environment: installed, upgraded and removed by its own pip; a plugin's code is trusted fully."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo.catalog.directory import find_listed
from zoo.errors import UsageError, ZooError
from zoo.plugins import DISTRIBUTION, PluginRecord

TRUST = "a plugin's code is trusted fully: it runs with your rights whenever zoo starts, as its build may now"
_REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w,-]+\])?([=<>!~]=?[\w.*,<>=!~]+)?")


@dataclass(frozen=True)
class Index:
    """Where pip looks; None leaves it to pip's own settings."""

    url: str | None = None
    links: str | None = None

    @property
    def options(self) -> list[str]:
        chosen = (("--index-url", self.url), ("--find-links", self.links))
        only = ["--no-index"] if self.links is not None and self.url is None else []
        return [*(part for name, value in chosen if value is not None for part in (name, value)), *only]


def install(name: str, index: Index, *, upgrade: bool = False, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Install a plugin, and load it in a process of its own.

    Args:
        name: a plugin of the directory, a distribution, a folder, a wheel or what else pip takes.
        upgrade: take the newest version although one is there.
        say: given lines for the user before anything runs.

    Returns:
        What became of the plugins of what was installed, as ``zoo plugins --json`` states it.

    Raises:
        UsageError: what pip would take for an option.
        ZooError: pip did not install it, or a plugin of it fails to load; then it is still installed.
    """
    wanted = _requirement(name)
    before = _plugins()
    say(f"installing {wanted}; {TRUST}")
    _pip(["install", *(["--upgrade"] if upgrade else []), *index.options, wanted])
    after = _plugins()
    changed = [plugin for plugin in after if plugin not in before]
    failed = next((plugin for plugin in changed if plugin["status"] == "failed"), None)
    if failed is not None:
        raise ZooError(f"{wanted} is installed, but its plugin {failed['name']!r} failed: {failed['error']}")
    return changed


def uninstall(records: Sequence[PluginRecord], name: str) -> str:
    """Remove the distribution of a plugin; return its name.

    Raises:
        UsageError: no such plugin, or one that comes with zoo itself.
    """
    distribution = _distribution(records, name)
    _pip(["uninstall", "--yes", distribution])
    return distribution


def upgrade_all(records: Sequence[PluginRecord], index: Index, *, say: Callable[[str], None]) -> list[str]:
    """Upgrade every distribution of plugins but zoo itself; return their names."""
    names = sorted(
        {record.distribution for record in records if record.distribution and _key(record.distribution) != DISTRIBUTION}
    )
    for name in names:
        install(name, index, upgrade=True, say=say)
    return names


def _requirement(name: str) -> str:
    listed = find_listed(name)
    if listed is not None:
        return listed.distribution
    if name.startswith("-") or not name.strip():
        raise UsageError(f"{name!r} is not a plugin, a distribution or a folder")
    if not Path(name).exists() and "://" not in name and not _REQUIREMENT.fullmatch(name):
        raise UsageError(f"{name!r} is not a plugin of the directory, a distribution, a folder or an address")
    return str(Path(name).resolve()) if Path(name).exists() and ("/" in name or name.endswith(".whl")) else name


def _distribution(records: Sequence[PluginRecord], name: str) -> str:
    found = next((record.distribution for record in records if name in (record.name, record.distribution)), None)
    if found is None:
        try:
            distribution = metadata.distribution(name)
        except (metadata.PackageNotFoundError, ValueError):
            distribution = None
        if distribution is None or not any(point.group == "zoo" for point in distribution.entry_points):
            raise UsageError(f"no plugin {name!r} is installed; `zoo plugins` lists them")
        found = name
    if _key(found) == DISTRIBUTION:
        raise UsageError(f"{name!r} comes with zoo itself; ZOO_PLUGINS=-{name} leaves it out")
    return found


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _plugins() -> list[dict[str, Any]]:
    """List the plugins as a fresh process sees them."""
    done = subprocess.run([sys.executable, "-m", "zoo", "plugins", "--json"], capture_output=True, text=True)
    try:
        plugins: list[dict[str, Any]] = json.loads(done.stdout)
    except ValueError:
        raise ZooError(
            f"zoo does not start any more: {(done.stderr.strip() or 'no output').splitlines()[-1]}"
        ) from None
    return plugins


def _pip(arguments: Sequence[str]) -> None:
    """Run this environment's pip; what it prints goes to stderr."""
    if importlib.util.find_spec("pip") is None:
        raise ZooError(
            f"this environment ({sys.prefix}) has no pip; install with the tool that made it, as "
            f"`uv pip install`, or `python -m ensurepip`"
        )
    done = subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments], stdout=2)
    if done.returncode:
        raise ZooError(f"pip {arguments[0]} failed (exit code {done.returncode}); its lines above say why")
