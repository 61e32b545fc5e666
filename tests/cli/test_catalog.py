"""``zoo catalog``."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from tests.catalog.conftest import _few_plugins as _few_plugins
from zoo.cli import app


def test_it_writes_pages_and_says_where(tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = CliRunner().invoke(app, ["catalog", "-o", str(site), "--json"])
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    pages = [path for path in site.rglob("*") if path.is_file()]
    assert said["files"] == len(pages) - 1  # the marker is none
    assert said["models"] == len(json.loads((site / "catalog.json").read_bytes())["models"])


def test_it_refuses_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = CliRunner().invoke(app, ["catalog", "-o", str(tmp_path)])
    assert done.exit_code == 1
    assert "not a catalog" in done.stderr
    assert "Traceback" not in done.output


def test_recorded_reports_are_shown(tmp_path: Path) -> None:
    from tests.catalog.conftest import report
    from zoo.reports import keep_report

    keep_report(report("verify", {"a_figure_of_ours": 0.25}, passed=True))
    site = tmp_path / "site"
    assert CliRunner().invoke(app, ["catalog", "-o", str(site)]).exit_code == 0
    assert "a_figure_of_ours" in (site / "models/tiny/zoo-tiny.html").read_text(encoding="utf-8")
