"""``zoo eval`` as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import zoo
from tests.evaluation.made import build, make_checkpoint_folder
from zoo.cli import app

ROWS = [{"question": "the dog", "choices": ["lived", "are you"], "answer": one % 2} for one in range(4)]
PLUGIN = """
from pathlib import Path
from zoo import hookimpl

@hookimpl
def register_tasks(register):
    register("quiz", Path(__file__).with_name("quiz.yaml"))
"""
TASK = """
task: quiz
dataset_path: json
dataset_kwargs: {data_files: {test: quiz.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("typed")
    return build(make_checkpoint_folder(folder / "small"), folder / "small-fp32")


@pytest.fixture
def quiz(install_plugin) -> None:
    rows = "".join(json.dumps(row) + "\n" for row in ROWS)
    install_plugin("quiz", PLUGIN, quiz__yaml=TASK, quiz__jsonl=rows)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["eval", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_table_and_json(package: Path, quiz: None) -> None:
    text = run(str(package), "--tasks", "quiz", "--against", str(package))
    assert text.splitlines()[2].split() == ["TASK", "SCORED", "BY", "SHOTS", "SAMPLES", "METRIC", "VALUE", "STDERR"]
    assert "the same at every sample" in text
    assert "report: " in text
    found = json.loads(run(str(package), "--tasks", "quiz", "--limit", "2", "--json"))
    assert found["reports"][0]["measured"]["samples"] == 2
    assert Path(found["paths"][0]).is_file()


def test_the_registered_tasks_are_listed(quiz: None) -> None:
    names = run("--list-tasks").splitlines()
    assert {"quiz", "oc_mmlu", "perplexity", "zoo_tiny_choice"} <= set(names)
    assert json.loads(run("--list-tasks", "--json")) == names


def test_what_is_missing_is_asked_for(package: Path) -> None:
    for arguments in ([], [str(package)]):
        done = CliRunner().invoke(app, ["eval", *arguments])
        assert done.exit_code == 2
        assert "name " in done.output


@pytest.mark.slow
def test_stdout_is_json_and_stderr_one_line_of_error(package: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zoo", "eval", str(package), "--json", "--tasks"]
    done = subprocess.run([*command, "zoo_tiny_choice", "--limit", "3"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reports"][0]["settings"]["task"] == "zoo_tiny_choice"
    assert done.stderr == ""
    bad = subprocess.run([*command, "oc_piqa", "--data", str(tmp_path / "none")], capture_output=True, text=True)
    assert bad.returncode == 1
    assert bad.stdout == ""
    assert bad.stderr.count("\n") == 1


def test_the_same_from_python(package: Path, quiz: None) -> None:
    done = zoo.evaluate(package, "quiz", limit=3, workers=1)
    assert done.reports[0].measured["samples"] == 3
