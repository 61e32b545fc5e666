"""Plugins installed from a folder of wheels into an environment of its own; aliases, search, what fits, tidying."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import zoo
from tests.docs.blocks import environment
from zoo.catalog.directory import directory
from zoo.cli import app
from zoo.home import zoo_home
from zoo.plugins import host
from zoo.stages import listing
from zoo.stages.tidy import leftovers

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_plugin_comes_from_a_local_index_and_goes(tmp_path: Path) -> None:
    wheels, variables = tmp_path / "wheels", environment(tmp_path)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(wheels)]
    subprocess.run([*pip, str(ROOT / "docs/example_plugin")], check=True)

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["zoo", *arguments], env=variables, capture_output=True, text=True)

    done = command("install", "zoo-plugin-pico", "--find-links", str(wheels))
    assert done.returncode == 0, done.stderr
    assert "a plugin's code is trusted fully" in done.stderr
    assert done.stdout.startswith("installed pico (zoo-plugin-pico 0.1.0): 1 families")
    assert "pico" in command("list", "--family", "pico").stdout
    missing = command("install", "zoo-plugin-none", "--find-links", str(wheels))
    assert missing.returncode == 1
    assert "pip install failed" in missing.stderr
    assert command("uninstall", "pico").stdout == "removed zoo-plugin-pico\n"
    assert command("uninstall", "pico").returncode == 2


@pytest.mark.parametrize("name", ["--pre", "a b", "../nowhere", "", "x;y"])
def test_what_pip_must_not_be_told(name: str) -> None:
    assert run("install", "--", name).exit_code == 2


def test_zoo_does_not_uninstall_itself() -> None:
    done = run("uninstall", "llama")
    assert done.exit_code == 2
    assert "comes with zoo itself" in done.stderr


def test_an_alias_stands_for_a_model() -> None:
    assert run("alias", "mine", "zoo-tiny").exit_code == 0
    assert json.loads(run("show", "mine", "--json").stdout)["model"] == "tiny/zoo-tiny"
    assert run("alias").stdout.splitlines()[1].split() == ["mine", "zoo-tiny"]
    for arguments in (("llama-33b", "zoo-tiny"), ("other", "nothing-like-it"), ("Bad Name", "zoo-tiny"), ("x", "mine")):
        assert run("alias", *arguments).exit_code == 2, arguments
    assert run("alias", "mine", "--remove").exit_code == 0
    assert run("show", "mine").exit_code == 2
    # A file that points at itself ends.
    (zoo_home() / "aliases.toml").write_text('[alias]\na = "b"\nb = "a"\n')
    assert run("show", "a").exit_code == 2


def test_a_search_finds_models_and_plugins() -> None:
    hits = json.loads(run("search", "R1-Distill", "--json").stdout)
    assert {hit["kind"] for hit in hits} == {"model"}
    assert "deepseek-r1/deepseek-r1-distill-qwen-7b" in [hit["name"] for hit in hits]
    assert [hit["name"] for hit in json.loads(run("search", "bitsandbytes", "--json").stdout)] == ["quantized"]
    assert run("search", "no such word").exit_code == 1


def test_the_directory_lists_what_is_there() -> None:
    bundled = {path.name for path in ROOT.glob("plugins/*") if (path / "pyproject.toml").is_file()}
    records = {record.name: record for record in host().records if record.name in bundled}
    listed = {plugin.name: plugin for plugin in directory() if plugin.distribution == "model-zoo-framework"}
    assert listed.keys() == records.keys() == bundled, "run `make directory`"
    for name, plugin in listed.items():
        families = records[name].registered.get("families", ())
        assert plugin.families == families, f"{name}: run `make directory`"
        assert (plugin.conformance is None) == (not families), name
        assert plugin.conformance is None or not plugin.conformance.failed, name


def test_what_fits_depends_on_the_machine_and_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = host().registry
    monkeypatch.setattr("zoo.engine.machine.free_memory", lambda: 4 * 10**9)
    (small,) = listing.list_models(registry, "llama3.2-1b", fits=2048)
    assert "int4" in small.precisions
    assert "fp32" not in small.precisions
    assert listing.list_models(registry, "llama3.2-1b", fits=131_072) == [], "its KV cache is past 4 GB"
    assert listing.list_models(registry, "llama-65b", fits=2048) == []
    assert [one.name for one in listing.list_models(registry, "zoo-tiny", fits=512)] == ["zoo-tiny"]
    assert listing.list_models(registry, "zoo-tiny", fits=100_000) == [], "past its context"


def test_what_nothing_needs_goes_and_packages_stay(tmp_path: Path) -> None:
    package = zoo.build("zoo-tiny", "int4")
    home = zoo_home()
    old = time.time() - 40 * 86_400
    made = {
        "digest": home / "digests" / "files" / "aa.json",
        "evaluation": home / "evaluations" / "x.jsonl",
        "prepared weights": home / "prepacked" / f"{'0' * 16}-{'1' * 16}",
    }
    kept = home / "prepacked" / f"{package.manifest.recipe_hash[:16]}-{'1' * 16}"
    for path in (made["digest"], made["evaluation"], made["prepared weights"] / "model.onnx", kept / "model.onnx"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
        os.utime(path, (old, old))
        os.utime(path.parent, (old, old))
    assert {one.kind for one in leftovers(30)} == set(made)
    assert "prepared weights" in run("gc", "--dry-run").stdout
    assert all(path.exists() for path in made.values())
    assert run("gc").exit_code == 0
    assert not any(path.exists() for path in made.values())
    assert kept.is_dir()
    assert package.path.is_dir()
    assert list(leftovers(30)) == []
