"""Reports under ``$ZOO_HOME/reports/<recipe hash>/``: written once, whole or not at all, never changed."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from zoo import __version__
from zoo.declarations.recipe import Recipe
from zoo.declarations.report import MachineKind, Report, ReportKind
from zoo.errors import ZooError
from zoo.home import reports_folder, zoo_home
from zoo.package.files import write_whole
from zoo.package.folder import Package
from zoo.package.hashes import read_contents

_MAX_REPORT = 64 * 2**20


def make_report(
    kind: ReportKind,
    package: Package,
    settings: dict[str, Any],
    measured: dict[str, Any],
    *,
    passed: bool | None = None,
    own_weights: bool | None = None,
    libraries: Iterable[str] = (),
) -> Report:
    """Write down a measurement of a package, with this machine and the libraries' versions.

    Args:
        package: what was measured; its files are read where nobody knows what they hold.
        own_weights: whether it was held against the weights that its model declares.
        libraries: distributions that took part, by name.
    """
    recipe_hash, contents = package.manifest.recipe_hash, read_contents(package)
    report = recipe_report(kind, package.manifest.recipe, settings, measured, passed=passed, libraries=libraries)
    return report.model_copy(update={"recipe_hash": recipe_hash, "contents": contents, "own_weights": own_weights})


def recipe_report(
    kind: ReportKind,
    recipe: Recipe,
    settings: dict[str, Any],
    measured: dict[str, Any],
    *,
    passed: bool | None = None,
    libraries: Iterable[str] = (),
) -> Report:
    """Write down a measurement of what a recipe stands for, built or not."""
    return Report(
        kind=kind,
        recipe_hash=recipe.hash,
        model=recipe.model,
        family=recipe.family,
        precision=recipe.precision,
        measured_at=datetime.now(UTC).replace(microsecond=0),
        settings=settings,
        measured=measured,
        passed=passed,
        machine=machine_kind(),
        versions=_versions(libraries),
        zoo_version=__version__,
    )


def require_place(recipe_hash: str) -> None:
    """Make sure that a report on a build can be kept, before hours are spent on what it will say.

    Raises:
        ZooError: the place cannot be written to.
    """
    folder = reports_folder(recipe_hash)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ZooError(f"{folder}: the report cannot be written: {error.strerror or error}") from None


def keep_report(report: Report) -> Path:
    """Write a report to its place.

    Raises:
        ZooError: the place cannot be written to.
    """
    folder = reports_folder(report.recipe_hash)
    stem = f"{report.kind}-{report.measured_at:%Y%m%dT%H%M%SZ}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, 10_000):
            path = folder / (f"{stem}.json" if number == 1 else f"{stem}-{number}.json")
            with contextlib.suppress(FileExistsError):
                write_whole(path, report.model_dump_json(indent=2).encode() + b"\n", replace=False)
                return path
        raise ZooError(f"{folder}: too many reports of one second")
    except OSError as error:
        raise ZooError(f"{folder}: the report cannot be written: {error.strerror or error}") from None


def reports(recipe_hash: str, kind: ReportKind | None = None, contents: str | None = None) -> list[Report]:
    """List the reports on a build, oldest first; a file that is not a report is passed over.

    Args:
        contents: leave out those on packages that are known to hold other files.
    """
    folder = reports_folder(recipe_hash)
    loaded = []
    for path in sorted(folder.glob(f"{kind or '*'}-*.json")) if folder.is_dir() else ():
        with contextlib.suppress(OSError, ValidationError):
            if path.stat().st_size <= _MAX_REPORT:
                loaded.append(Report.model_validate_json(path.read_bytes()))
    ours = (report for report in loaded if contents is None or report.contents in (None, contents))
    return sorted(ours, key=lambda report: report.measured_at)


def recorded_reports() -> list[Report]:
    """List the reports on every build, by recipe hash, oldest first; those on weights yet to be built are left out."""
    folder = zoo_home() / "reports"
    recorded = (
        [report for entry in sorted(folder.iterdir()) for report in reports(entry.name)] if folder.is_dir() else []
    )
    return [report for report in recorded if report.kind != "sensitivity"]


def verification(recipe_hash: str, contents: str | None = None) -> Report | None:
    """Find the report that says whether a build is verified: the latest full one, else the latest quick one."""
    return latest_verification(reports(recipe_hash, "verify", contents))


def latest_verification(found: Sequence[Report]) -> Report | None:
    """Choose the report that counts among verifications of one build, oldest first."""
    full = [report for report in found if not report.settings.get("quick")]
    chosen = full or found
    return chosen[-1] if chosen else None


def is_verified(recipe_hash: str, contents: str | None = None) -> bool:
    """Tell whether a build, of these contents where they are known, was verified and passed."""
    report = verification(recipe_hash, contents)
    return report is not None and report.passed is True


def machine_kind() -> MachineKind:
    """Describe this machine without naming it."""
    import psutil

    affinity = getattr(os, "sched_getaffinity", None)
    return MachineKind(
        cpu=_cpu_name(),
        cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.machine()}",
    )


def _cpu_name() -> str:
    """The model name that the system gives its processor, or the instruction set."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Hardware") and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def _versions(libraries: Iterable[str]) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in libraries:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
