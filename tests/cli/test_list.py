"""``zoo list`` and ``zoo show``."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pty
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from zoo.cli import app


def run(*args: str):
    return CliRunner().invoke(app, list(args))


def rows(*args: str) -> list[dict]:
    result = run("list", *args, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_json_has_exactly_the_promised_fields() -> None:
    entries = {one["name"]: one for one in rows()}
    assert entries["llama-33b"] == {
        "name": "llama-33b",
        "family": "llama",
        "parameters": 32_528_943_616,
        "attention": "MHA",
        "context_length": 2048,
        "licence": "llama",
        "precisions": ["int8", "int4", "fp16", "fp32"],
        "built": [],
    }
    assert entries["llama2-70b"]["attention"] == "GQA"
    assert entries["zoo-tiny"]["family"] == "tiny"


def test_globs_and_filters() -> None:
    assert [one["name"] for one in rows("llama2-7b*")] == ["llama2-7b", "llama2-7b-chat"]
    assert {one["family"] for one in rows("--family", "llama2")} == {"llama2"}
    assert [one["name"] for one in rows("llama/*")] == ["llama-33b"]
    assert rows("nothing*") == []
    assert rows("--built") == []


def test_the_table_has_its_columns_and_no_cut() -> None:
    lines = run("list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "FAMILY", "PARAMS", "ATTENTION", "CONTEXT", "LICENCE", "PRECISIONS", "BUILT"]
    assert any(line.startswith("llama2-70b-chat") and "69.0B" in line for line in lines)


def test_show_says_where_each_value_came_from() -> None:
    result = run("show", "llama2-70b-chat", "--json")
    fields = json.loads(result.stdout)["fields"]
    assert fields["architecture"]["num_key_value_heads"] == {"value": 8, "origin": "model llama2-70b"}
    assert fields["architecture"]["rope_theta"]["origin"] == "family llama2"
    assert fields["architecture"]["head_dim"] == {"value": 128, "origin": "computed"}
    assert fields["licence"]["commercial_use"]["value"] is True
    assert "ort" in " ".join(fields)
    assert "llama2-70b" in run("show", "llama2-70b-chat").stdout


@pytest.mark.parametrize("command", ["list", "show"])
def test_an_unknown_model_is_offered_the_nearest(command) -> None:
    result = run("show", "llama2-7bb")
    assert result.exit_code == 2
    assert result.stderr.startswith("zoo: unknown model 'llama2-7bb'; did you mean llama2-7b")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "args", [["lst"], ["list", "--nope"], ["--nope"], ["show"], ["build", "zoo-tiny", "-p", "int9"]]
)
def test_wrong_usage_is_one_line_and_exit_2(args) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert result.stderr.startswith("zoo: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("args", [["--help"], ["list"], ["show", "llama-33b"], ["plugins"]])
def test_listing_imports_nothing_heavy(args) -> None:
    code = (
        "import sys\nfrom zoo.cli import app\n"
        f"try: app({args!r})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'onnx', 'onnxruntime', 'numpy', 'tokenizers', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ}, capture_output=True, text=True)
    assert done.stderr.strip() == "[]"


def test_python_dash_m_and_version() -> None:
    done = subprocess.run([sys.executable, "-m", "zoo", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[0]) == (0, "zoo")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "zoo", "--version"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (1, "zoo: No space left on device\n")


def test_a_package_is_shown_and_removed(tmp_path) -> None:
    package = tmp_path / "package"
    assert run("build", "zoo-tiny", "-o", str(package)).exit_code == 0
    fields = json.loads(run("show", str(package), "--json").stdout)["fields"]
    assert fields["package"]["precision"] == {"value": "int8", "origin": "zoo.json"}
    assert fields["architecture"]["attention"]["value"] == "GQA"
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "config.json").write_text("{}")
    refused = run("rm", str(keep))
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1
    assert (keep / "config.json").exists()
    link = tmp_path / "link"
    link.symlink_to(package)
    refused = run("rm", str(link))
    assert (refused.exit_code, "is a link; name the folder that it leads to" in refused.stderr) == (1, True)
    assert link.is_symlink()
    link.unlink()
    assert run("rm", str(package)).exit_code == 0
    assert [one.name for one in tmp_path.iterdir() if "package" in one.name] == []


def test_built_packages_are_listed() -> None:
    assert run("build", "zoo-tiny", "-p", "int4").exit_code == 0
    assert run("build", "zoo-tiny").exit_code == 0
    assert [(one["name"], sorted(one["built"])) for one in rows("--built")] == [("zoo-tiny", ["int4", "int8"])]
    two = run("run", "zoo-tiny", "Hello")
    assert two.exit_code == 2
    assert "int4" in two.stderr
    assert "int8" in two.stderr
    assert run("run", "zoo-tiny", "Hello", "-p", "int4", "--max-new-tokens", "3").exit_code == 0


def test_a_terminal_gets_families_as_groups_within_100_columns() -> None:
    screen, end = pty.openpty()
    command = [sys.executable, "-m", "zoo", "list", "llama*"]
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm", "NO_COLOR": "1"}
    child = subprocess.Popen(command, stdout=end, stderr=end, env=environment)
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while part := os.read(screen, 65536):
            shown += part
    os.close(screen)
    assert child.wait() == 0
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in shown.decode().splitlines()]
    assert max(map(len, lines)) <= 100
    members = itertools.takewhile(lambda line: line.startswith(" "), lines[lines.index("llama2") + 1 :])
    assert [line.split()[1] for line in members] == ["6.7B", "6.7B", "13.0B", "13.0B", "69.0B", "69.0B"]
