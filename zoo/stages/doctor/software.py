"""Python, packages, plugins and external tools."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata

from zoo.errors import ZooError
from zoo.plugins import DISTRIBUTION, Host
from zoo.registry import Registry
from zoo.stages.doctor.findings import Finding, Status
from zoo.toolchain import DocumentTarget, Tool

MINIMUM_PYTHON = (3, 11)
COMMAND = "zoo"
_FILES = re.compile(rf"^{COMMAND}/", re.MULTILINE)
"""A file of a package of that name, in a distribution's list of files."""
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_PATIENCE = 20
"""Seconds that a tool has to say its version."""


def installed(package: str) -> str | None:
    """Find the version of an installed distribution."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def python_and_packages() -> Iterator[Finding]:
    """Check the interpreter and what the zoo itself depends on."""
    version = platform.python_version()
    wanted = ".".join(map(str, MINIMUM_PYTHON))
    if sys.version_info >= MINIMUM_PYTHON:
        yield Finding("python", "python", "ok", version)
    else:
        mend = f"install Python {wanted} or newer"
        yield Finding("python", "python", "missing", f"{version}, needs {wanted}", mend)
    from packaging.requirements import Requirement

    yield from other_owners()
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        mend = f"in the environment of this zoo: pip install {DISTRIBUTION}"
        yield Finding("package", DISTRIBUTION, "warning", "not installed as such", mend)
        return
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found, mend = installed(requirement.name), f"pip install '{requirement.name}{requirement.specifier}'"
        subject = requirement.name
        if found is None:
            yield Finding("package", subject, "missing", "not installed", mend)
        elif not requirement.specifier.contains(found, prereleases=True):
            there = f"{found}, needs {requirement.specifier}"
            yield Finding("package", subject, "missing", there, mend)
        else:
            yield Finding("package", subject, "ok", found)


def other_owners() -> Iterator[Finding]:
    """Find distributions of other projects that bring a command or a package called ``zoo`` of their own.

    One that is installed over this one replaces its files, and one that this one is installed over loses its own.
    """
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"] or "a distribution without a name"
        if name.lower().replace("_", "-") == DISTRIBUTION:
            continue
        taken = []
        if any(point.group == "console_scripts" and point.name == COMMAND for point in distribution.entry_points):
            taken.append(f"the command {COMMAND}")
        if _FILES.search(distribution.read_text("RECORD") or ""):
            taken.append(f"the package {COMMAND}")
        if taken:
            found = f"{distribution.version} brings {' and '.join(taken)} of its own"
            mend = f"pip uninstall {name} && pip install --force-reinstall --no-deps {DISTRIBUTION}"
            yield Finding("package", name, "warning", found, mend)


def tested_versions(tested: Mapping[str, str], model: str) -> Iterator[Finding]:
    """Compare installed packages with those that the declaration says the family was tested with."""
    mend = f"in an environment of its own: zoo doctor {model} --requirements > tested.txt && pip install -r tested.txt"
    for package, version in tested.items():
        found = installed(package)
        if found == version:
            yield Finding("tested version", package, "ok", found)
            continue
        there = f"{found or 'not installed'}; the family was tested with {version}"
        yield Finding("tested version", package, "note", there, mend)


def plugins(host: Host, family_plugin: str | None) -> Iterator[Finding]:
    """Show the plugins that failed, and that the model's own is loaded."""
    for record in host.records:
        if record.status == "failed":
            mend = (
                f"pip install --upgrade {record.distribution}" if record.distribution else f"zoo validate {record.name}"
            )
            yield Finding("plugin", record.name, "warning", record.error or "failed", mend)
        elif record.name == family_plugin or (family_plugin is None and record.status == "loaded"):
            yield Finding("plugin", record.name, "ok", f"{record.status} {record.version or ''}".strip())


def tools(registry: Registry, chosen: str, *, needed: bool) -> Iterator[Finding]:
    """Check the programs of the chosen target, and name those of the others.

    Args:
        chosen: the target that the model is to be built for.
        needed: a model was named, so the chosen target's programs are needed.
    """
    for name in registry.targets:
        try:
            target: object = registry.target(name)
        except ZooError as error:  # of a plugin that is installed by half; the chosen target was asked for before
            mend = "reinstall the plugin that brings it; see `zoo plugins`"
            yield Finding("plugin", f"target {name}", "warning", str(error), mend)
            continue
        if isinstance(target, DocumentTarget):
            for tool in target.tools:
                yield _tool(tool, name, needed=needed and name == chosen)


def _tool(tool: Tool, target: str, *, needed: bool) -> Finding:
    path = shutil.which(tool.name)
    purpose = f"{tool.purpose}, for the target {target}"
    bad: Status = "missing" if needed else "note"
    if path is None:
        described = f"not on the PATH; {purpose}"
        return Finding("tool", tool.name, bad, described, tool.install)
    if tool.minimum is None:
        return Finding("tool", tool.name, "ok", f"on the PATH; {purpose}")
    version, wanted = tool_version(path, tool), ".".join(map(str, tool.minimum))
    if version is None:
        described = f"on the PATH, but prints no version; v{wanted} or newer is needed"
        return Finding("tool", tool.name, "warning", described, tool.install)
    shown = ".".join(map(str, version))
    if version < tool.minimum:
        described = f"v{shown}; v{wanted} or newer is needed"
        return Finding("tool", tool.name, bad, described, tool.install)
    return Finding("tool", tool.name, "ok", f"v{shown}; {purpose}")


def tool_version(path: str, tool: Tool) -> tuple[int, ...] | None:
    """Ask a program for its version; None where it does not say."""
    try:
        done = subprocess.run(
            [path, *tool.version_argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(f"{done.stdout}\n{done.stderr}")
    return tuple(int(part) for part in match[0].split(".")) if match else None
