"""``zoo doctor`` on the command line."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from zoo.stages.doctor import hardware


def run(*args: str) -> Result:
    from zoo.cli import app

    return CliRunner().invoke(app, ["doctor", *args], prog_name="zoo")


@pytest.fixture(autouse=True)
def _memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "memory_limit", lambda: (64 * 10**9, 48 * 10**9))
    monkeypatch.setattr(hardware, "free_space", lambda folder: 10**12)


def test_json() -> None:
    result = run("zoo-tiny", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["model"], report["target"], report["ok"]) == ("zoo-tiny", "ort", True)
    assert {"check", "subject", "status", "found", "mend"} == set(report["findings"][0])


def test_table_and_exit_code() -> None:
    result = run("llama-33b")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["CHECK", "SUBJECT", "STATUS", "FOUND", "MEND"]
    (weights,) = (line for line in lines if line.startswith("weights"))
    assert "missing" in weights
    assert "zoo fetch llama-33b" in weights
    assert run().exit_code == 0


def test_the_vendor_s_tool_is_needed_for_its_target_only(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert run("zoo-tiny").exit_code == 0
    assert run("zoo-tiny", "--target", "vamc").exit_code == 1


def test_requirements_is_what_pip_reads() -> None:
    from packaging.requirements import Requirement

    result = run("llama2-7b", "--requirements")
    assert result.exit_code == 0
    assert {Requirement(line).name for line in result.stdout.splitlines()} >= {"torch", "transformers", "onnx"}


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--requirements"], 2, "needs a MODEL"),
        (["nothing-like-it"], 2, "unknown model"),
        (["zoo-tiny", "--target", "vamk"], 2, "did you mean vamc"),
        (["zoo-tiny", "-p", "int9"], 2, "unknown precision"),
        (["zoo-tiny", "--target", "vamc", "-p", "fp32"], 2, "builds fp16, int8"),
    ],
)
def test_wrong_usage(args, code, message) -> None:
    result = run(*args)
    assert (result.exit_code, message in result.stderr) == (code, True)
    assert result.stderr.count("\n") == 1
