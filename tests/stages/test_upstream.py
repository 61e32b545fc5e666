"""`zoo doctor --next`: a library that breaks something tomorrow is found in an environment of its own."""

from __future__ import annotations

import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zoo.cli import app
from zoo.errors import ZooError
from zoo.stages.upstream import try_newest


def wheel(folder: Path, name: str, version: str, source: str) -> Path:
    """Write a wheel of one module."""
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}/__init__.py", source)
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    return path


def test_what_a_newer_library_breaks_is_named(tmp_path: Path) -> None:
    broken = wheel(tmp_path, "jinja2", "999.0", "raise ImportError('no more templates')\n")
    drift = try_newest("gemma", [str(broken)], tier="declare")
    assert drift.versions == {"jinja2": (metadata.version("jinja2"), "999.0")}
    assert {check.name.split("[")[0] for check in drift.broken} == {"test_a_chat_template_renders"}
    assert "no more templates" in drift.broken[0].message
    assert drift.mended == []
    assert metadata.version("jinja2") != "999.0", "this environment stays what it was"


def test_what_cannot_be_tried_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ZooError, match="no-such-library: ") as caught:
        try_newest("gemma", ["no-such-library"])
    assert "\n" not in str(caught.value)
    assert CliRunner().invoke(app, ["doctor", "--next"]).exit_code == 2
