"""Reports: written once, found again, and nothing in them that tells which machine it was."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import pytest
from pydantic import ValidationError

import zoo
from tests.builds import architecture, make_recipe
from zoo.declarations.manifest import FileRecord, Manifest
from zoo.declarations.report import Report
from zoo.errors import ZooError
from zoo.home import reports_folder
from zoo.package.folder import Package
from zoo.package.hashes import read_contents, stated_contents
from zoo.reports import is_verified, keep_report, make_report, reports, verification

RECIPE = make_recipe(architecture())
MANIFEST = Manifest(recipe=RECIPE, recipe_hash=RECIPE.hash, parameters=1, bits_per_weight=8, files={}, versions={})


def report(*, passed: bool | None = True, quick: bool = False, second: int = 0, kind="verify") -> Report:
    package = Package(Path(), MANIFEST)
    made = make_report(kind, package, {"quick": quick}, {"figure": 1.5}, passed=passed, libraries=("numpy", "no-such"))
    return made.model_copy(update={"measured_at": made.measured_at.replace(year=2020, minute=0, second=second)})


def test_a_report_comes_back_as_it_was() -> None:
    made = report()
    path = keep_report(made)
    assert path.parent == reports_folder(RECIPE.hash)
    assert reports(RECIPE.hash) == [made]
    assert Report.model_validate_json(path.read_bytes()) == made
    assert "numpy" in made.versions
    assert "no-such" not in made.versions


def test_reports_of_one_second_do_not_replace_each_other() -> None:
    first, second = report(passed=True), report(passed=False)
    assert keep_report(first) != keep_report(second)
    assert reports(RECIPE.hash) in ([first, second], [second, first])
    assert not [one for one in os.listdir(reports_folder(RECIPE.hash)) if not one.endswith(".json")]


def test_kinds_are_told_apart() -> None:
    keep_report(report(kind="bench", passed=None))
    assert reports(RECIPE.hash, "verify") == []
    assert len(reports(RECIPE.hash, "bench")) == 1
    assert verification(RECIPE.hash) is None


def test_the_latest_full_verification_decides() -> None:
    assert not is_verified(RECIPE.hash)
    keep_report(report(passed=True, quick=True, second=1))
    assert is_verified(RECIPE.hash)
    keep_report(report(passed=False, second=2))
    assert not is_verified(RECIPE.hash)
    keep_report(report(passed=True, quick=True, second=3))
    assert not is_verified(RECIPE.hash)
    keep_report(report(passed=True, second=4))
    assert is_verified(RECIPE.hash)


def test_a_file_that_is_no_report_is_passed_over() -> None:
    keep_report(report())
    (reports_folder(RECIPE.hash) / "verify-20991231T000000Z.json").write_text("{}")
    assert len(reports(RECIPE.hash)) == 1


def test_it_names_no_host_and_no_path() -> None:
    text = keep_report(report()).read_text()
    assert platform.node() not in text
    assert os.path.expanduser("~") + "/" not in text
    assert os.environ["ZOO_HOME"] not in text


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError):
        Report.model_validate({**report().model_dump(), "host": "example"})


def test_a_place_that_cannot_be_written_is_one_line(monkeypatch, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "file"))
    with pytest.raises(ZooError, match="cannot be written"):
        keep_report(report())


def test_a_place_that_cannot_be_written_is_known_before_anything_is_measured(monkeypatch, tmp_path) -> None:
    package = zoo.build("zoo-tiny", output=tmp_path / "tiny").path
    monkeypatch.setattr("zoo.stages.bench.package.measure", lambda *_, **__: pytest.fail("it measured"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "file"))
    with pytest.raises(ZooError, match="the report cannot be written: Not a directory"):
        zoo.benchmark(package, input_len=4, output_len=2)


def test_a_report_counts_for_the_bytes_that_were_measured(tmp_path) -> None:
    """Two packages of one recipe that hold other bytes, and one that says what it does not hold."""

    def package(name: str, content: bytes, stated: bytes | None = None) -> Package:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "weights").write_bytes(content)
        sha256 = hashlib.sha256(content if stated is None else stated).hexdigest()
        files = {"weights": FileRecord(size=len(content), sha256=sha256)}
        return Package(folder, MANIFEST.model_copy(update={"files": files}))

    mine, other, liar = package("mine", b"one"), package("other", b"two"), package("liar", b"bad", b"one")
    keep_report(make_report("verify", liar, {}, {}, passed=False))
    keep_report(make_report("verify", mine, {}, {}, passed=True))
    assert [is_verified(RECIPE.hash, stated_contents(one.manifest)) for one in (mine, other)] == [True, False]
    assert read_contents(mine) == stated_contents(mine.manifest)
    assert read_contents(liar) != stated_contents(liar.manifest)
    assert len(reports(RECIPE.hash)) == 2
