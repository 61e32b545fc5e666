"""``zoo report``: text, Markdown and JSON."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tests.stages.test_report import HASHES, scored
from zoo.cli import app
from zoo.cli.output import figure_text
from zoo.reports import keep_report


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["report", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0.0000"),
        (0.625, "0.6250"),
        (-0.5, "-0.5000"),
        (9999.5, "9999.5000"),
        (2.6778588e21, "2.68e+21"),
        (8.7e-5, "8.7e-05"),
    ],
)
def test_figures_are_as_long_as_they_say_something(value: float, said: str) -> None:
    assert figure_text(value) == said


def test_three_forms() -> None:
    keep_report(scored("int8", 0.5))
    keep_report(scored("fp32", 0.625))
    text = run("zoo-tiny").splitlines()
    assert text[0].split() == ["WHAT", "CONDITIONS", "FIGURE", "FP32", "INT8"]
    assert text[1].endswith("0.6250 ± 0.0100  0.5000 ± 0.0100")
    markdown = run("zoo-tiny", "--markdown").splitlines()
    assert markdown[1] == "| --- | --- | --- | ---: | ---: |"
    assert markdown[2] == ("| eval: quiz | likelihood, 0-shot, 9 samples | acc | 0.6250 ± 0.0100 | 0.5000 ± 0.0100 |")
    table = json.loads(run("zoo-tiny", "--json"))
    assert table["rows"][0]["cells"][HASHES["int8"]]["value"] == 0.5
