"""A model on the hub: planned from its headers, then fetched and built, and pinned to its commit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.checkpoints import make_checkpoint
from tests.hubserver import HubServer
from zoo.cli import app


def zoo(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def published(server: HubServer, tmp_path: Path) -> HubServer:
    folder = tmp_path / "published"
    make_checkpoint(folder, dtype="float16", intermediate_size=8192)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    server.add("someone/small", folder, card={"license": "mit"})
    return server


def test_a_dry_run_reads_headers_alone(published: HubServer, tmp_path: Path) -> None:
    weights = (tmp_path / "published" / "model.safetensors").stat().st_size
    done = zoo("build", "someone/small", "--dry-run", "--json")
    assert done.exit_code == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["download_bytes"] == weights
    assert plan["recipe"]["weights"]["revision"] == published.repos["someone/small"].commit
    assert plan["recipe"]["licence"]["id"] == "mit"
    assert published.sent < weights / 2
    built = zoo("build", "someone/small", "--json")
    assert built.exit_code == 0, built.stderr
    assert json.loads(built.stdout)["recipe_hash"] == plan["recipe_hash"]
    size = json.loads(built.stdout)["bytes"]
    assert abs(size - plan["write_bytes"]) <= 0.1 * size
    again = json.loads(zoo("build", "someone/small", "--dry-run", "--json").stdout)
    assert (again["download_bytes"], again["recipe_hash"]) == (0, plan["recipe_hash"])


def test_what_was_fetched_builds_offline(published: HubServer, tmp_path: Path) -> None:
    assert zoo("fetch", "someone/small").exit_code == 0
    published.repos.clear()
    done = zoo("build", "someone/small", "--offline", "-o", str(tmp_path / "out"), "--json")
    assert done.exit_code == 0, done.stderr
    manifest = json.loads((tmp_path / "out" / "zoo.json").read_text())
    assert manifest["recipe"]["weights"]["hub"] == "someone/small"
    assert str(tmp_path) not in json.dumps(manifest)
