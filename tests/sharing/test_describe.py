"""The bill of materials of a package fits CycloneDX's own schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zoo.cli import app
from zoo.package.folder import read_manifest


def test_a_bill_of_materials_is_valid_and_whole(package: Path) -> None:
    done = CliRunner().invoke(app, ["sbom", str(package)])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    files = {part["name"]: part["hashes"][0]["content"] for part in document["components"] if part["type"] == "file"}
    assert files == {name: record.sha256 for name, record in read_manifest(package).files.items()}
    assert document == json.loads(CliRunner().invoke(app, ["sbom", str(package)]).stdout), "the same package, the same"
    json_schema = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    problem = json_schema.JsonStrictValidator(SchemaVersion.V1_6).validate_str(done.stdout)
    assert problem is None, problem
