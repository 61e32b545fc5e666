"""Results beside declarations: written, read back everywhere, replaced by later ones of the same conditions."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.conftest import REGISTER_FAMILY
from tests.stages.test_report import report, scored
from zoo.cli import app
from zoo.plugins import host
from zoo.reports import keep_report
from zoo.results import RUNGS, all_reports, committed, ladder, read_results
from zoo.stages.locations import Location
from zoo.stages.weights import are_declared


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def plugin(install_plugin, family_yaml) -> Path:
    """A plugin whose family can carry results."""
    return install_plugin("mine", REGISTER_FAMILY, family__yaml=family_yaml("mine", "mine-1b"))


def mine(score: float, later: int = 0):
    report = scored("int8", score).model_copy(update={"family": "mine", "model": "mine-1b"})
    return report.model_copy(update={"measured_at": report.measured_at + timedelta(hours=later)})


def test_what_was_recorded_travels_with_the_plugin(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_report(mine(0.625))
    done = run("report", "mine-1b", "--commit", str(plugin / "results"))
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{plugin / 'results' / 'mine-1b.yaml'}: 1 results\n"
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "another machine"))
    model = host().registry.model("mine-1b")
    assert ladder(model, all_reports(host().registry)) == ("declared", "builds", "scored")
    assert "declared → builds → scored" in run("show", "mine-1b").stdout
    assert "declared → builds → scored" in run("list", "mine*", "--results").stdout
    assert len(json.loads(run("list", "mine*", "--json").stdout)[0]) == 8, "the JSON of a list is fixed"
    site = tmp_path / "pages"
    done = run("catalog", "-o", str(site))
    assert done.exit_code == 0, done.output
    assert "0.625" in (site / "models/mine/mine-1b.html").read_text()


def test_a_later_figure_that_is_worse_is_said(plugin: Path) -> None:
    folder = plugin / "results"
    keep_report(mine(0.625))
    run("report", "mine-1b", "--commit", str(folder))
    keep_report(mine(0.5, later=1))
    said = run("report", "mine-1b", "--commit", str(folder)).stdout.splitlines()
    assert said == [f"{folder / 'mine-1b.yaml'}: 1 results", "int8, quiz, acc: 0.625 before, 0.5 now (worse)"]
    assert run("report", "mine-1b", "--commit", str(folder)).stdout.count("\n") == 1


def test_a_model_is_verified_on_its_own_checkpoint_alone(plugin: Path, tmp_path: Path) -> None:
    """What a verification on other weights says is kept and is no rung; a note says what they were."""
    model, figures = host().registry.model("mine-1b"), {"figures": {"top1": 0.99}}
    checked = report("verify", "int8", {"quick": False}, figures, passed=True, family="mine", model="mine-1b")
    for own, rungs in ((None, ()), (False, ()), (True, ("verified",))):
        mine = checked.model_copy(update={"own_weights": own})
        assert ladder(model, [mine]) == ("declared", "builds", *rungs)
    keep_report(checked.model_copy(update={"own_weights": False}))
    folder = plugin / "results"
    run("report", "mine-1b", "--commit", str(folder), "--note", "on weights made of a 4-bit file")
    run("report", "mine-1b", "--commit", str(folder))
    said = run("show", "mine-1b").stdout
    assert "on weights made of a 4-bit file" in said
    assert "declared → builds " in said
    refused = run("report", "mine-1b", "--commit", str(folder), "--note", "x" * 2000)
    assert (refused.exit_code, refused.stderr) == (1, "zoo: the note has 2000 characters, 1000 at most\n")


def test_a_folder_is_known_by_the_declared_sha256(plugin: Path, family_yaml, tmp_path: Path) -> None:
    model, weights = host().registry.model("mine-1b"), tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"x")
    here, stated = Location(str(weights), "safetensors"), model.model.weights
    assert are_declared(model, here) is None
    for raw, known in ((b"x", True), (b"y", False)):
        files = {"model.safetensors": hashlib.sha256(raw).hexdigest()}
        knows = model.model.model_copy(update={"weights": stated.model_copy(update={"files": files})})
        assert are_declared(replace(model, model=knows), here) is known
    assert are_declared(model, Location(str(stated.hub), "hub")) is True
    assert are_declared(model, Location("some/other", "hub")) is False


def test_results_of_others_and_broken_files_count_for_nothing(plugin: Path) -> None:
    folder = plugin / "results"
    folder.mkdir()
    keep_report(mine(0.625))
    run("report", "mine-1b", "--commit", str(folder))
    (folder / "other.yaml").write_bytes((folder / "mine-1b.yaml").read_bytes())
    (folder / "broken.yaml").write_text("reports: [{kind: eval}]\n")
    family = host().registry.families["mine"]
    assert len(committed(family)) == 1
    (folder / "mine-1b.yaml").write_text("reports: 3\n")
    assert committed(family) == []
    done = run("report", "mine-1b", "--commit", str(folder))
    assert done.exit_code == 1
    assert "expected a list, not 3" in done.stderr
    assert run("report", "llama-33b", "--commit", str(folder)).exit_code == 1


def test_the_bundled_model_carries_what_was_measured() -> None:
    family = host().registry.families["tiny"]
    assert family.path is not None
    reports = read_results(family.path.parent / "results" / "zoo-tiny.yaml").reports
    assert {report.kind for report in reports} == {"verify", "eval", "bench"}
    assert ladder(host().registry.model("zoo-tiny"), committed(family)) == RUNGS
