"""``zoo verify`` on the command line."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import zoo
from tests.stages.test_verify import spoil
from zoo.cli import app

pytest.importorskip("torch")
pytest.importorskip("transformers")


def run(*args: str):
    return CliRunner().invoke(app, [str(one) for one in args])


@pytest.fixture
def package(tmp_path):
    return zoo.build("zoo-tiny", "fp32", output=tmp_path / "tiny").path


def test_a_verified_package_is_said_to_be(package) -> None:
    result = run("verify", package, "--quick")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].startswith("tiny/zoo-tiny fp32, recipe ")
    assert result.stdout.splitlines()[-1] == "verified"


def test_json_is_the_report_and_nothing_else(package) -> None:
    result = run("verify", package, "--quick", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["kind"], report["passed"]) == ("verify", True)
    assert report["measured"]["figures"]["text_tokens"] > 100


def test_past_the_tolerance_is_exit_1_and_names_the_layer(package) -> None:
    spoil(package, "model.layers.3.mlp.down_proj.weight", lambda one: one * 0)
    result = run("verify", package, "--quick")
    assert result.exit_code == 1
    assert "not verified; the first that diverges: layer 3" in result.stdout
    assert "FAILED" in result.stdout
    places = result.stdout[result.stdout.index("PLACE") :].splitlines()[1:]
    assert [line.rsplit(maxsplit=4)[0].strip() for line in places][:2] == ["embedding", "layer 0"]


def test_files_alone_need_no_reference(package, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    assert run("verify", package, "--files").stdout == "tiny: 9 files, all as they were built\n"
    text = (package / "tokenizer_config.json").read_text()
    (package / "tokenizer_config.json").write_text(text.replace("{", "[", 1))
    result = run("verify", package, "--files")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "tiny/tokenizer_config.json: its SHA-256 is not the one in zoo.json; build the package again"
    ]
    assert json.loads(run("verify", package, "--files", "--json").stdout)["bad"] == result.stdout.splitlines()


def test_lists_and_descriptions_say_verified() -> None:
    zoo.build("zoo-tiny", "fp32")
    assert "verified" not in run("list", "zoo-tiny").stdout
    assert run("verify", "zoo-tiny", "--quick").exit_code == 0
    assert run("list", "zoo-tiny").stdout.rstrip().endswith("fp32 (verified)")
    entry = json.loads(run("list", "zoo-tiny", "--json").stdout)[0]
    assert entry["built"] == ["fp32"]
    assert "verified" not in entry
    assert "fp32 for ort, verified" in run("show", "zoo-tiny").stdout


def test_nothing_built_is_one_line(tmp_path) -> None:
    result = run("verify", "zoo-tiny")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "zoo build zoo-tiny" in result.stderr
