"""One command for several targets: a folder for each, all refused before any is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.checkpoints import make_checkpoint
from zoo.cli import app
from zoo.package.folder import read_manifest

WIDE = {"hidden_size": 128, "intermediate_size": 256, "vocab_size": 320}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    make_checkpoint(folder, dtype="bfloat16", **WIDE)
    return folder


def run(*args: object, code: int = 0):
    result = CliRunner().invoke(app, ["build", *map(str, args)])
    assert result.exit_code == code, (result.output, result.stderr)
    return result


def test_each_target_gets_a_folder_and_a_manifest_of_its_own(checkpoint, tmp_path):
    folder = tmp_path / "all"
    options = ("-p", "int8", "--target", "ort,vllm,gguf", "--target-option", "shard_gb=1", "-o", folder, "--json")
    plans = json.loads(run(checkpoint, *options, "--dry-run").stdout)
    assert not folder.exists()
    told = json.loads(run(checkpoint, *options).stdout)
    assert [Path(one["package"]) for one in told] == [folder / name for name in ("ort", "vllm", "gguf")]
    for name, one in zip(plans, told, strict=True):
        recipe = read_manifest(folder / name).recipe
        assert (recipe.target.name, recipe.hash) == (name, plans[name]["recipe_hash"])
        assert one["bytes"] <= plans[name]["disk_output_bytes"] * 1.05 + 40_000
    assert read_manifest(folder / "vllm").recipe.target.options["shard_gb"] == 1
    assert all(one["already_built"] for one in json.loads(run(checkpoint, *options).stdout))
    shown = run(checkpoint, *options[:-1], "--dry-run").stdout
    assert "disk of all: " in shown


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (("--target", "ort,vllm", "--block-size", 16), 1, "groups of 16 columns, which vLLM has no kernels for"),
        (
            ("--target", "ort,vllm", "--target-option", "nope=1"),
            2,
            "none of the targets ort, vllm has an option 'nope'",
        ),
        (("--target", "ort,ort"), 2, "takes different names"),
        (("--target", "ort,nosuch"), 2, "nosuch"),
        (("--target", "ort,vllm", "-p", "fp16", "--target-option", "weights=original"), 1, "writes no weights"),
    ],
)
def test_what_one_target_refuses_is_refused_before_any_is_written(checkpoint, tmp_path, options, code, reason):
    done = run(checkpoint, "-o", tmp_path / "all", *options, code=code)
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "all").exists()
    assert "-o DIR" in run(checkpoint, "--target", "ort,vllm", code=2).stderr
