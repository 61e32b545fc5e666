"""What Python sees: a plan that takes whatever decides a build, and says what the build then does."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import zoo
from tests.checkpoints import make_checkpoint
from tests.stages.test_calibrate import add_tokenizer, words
from zoo.cli import app
from zoo.errors import UsageError


def test_a_plan_of_a_calibrated_build_has_its_recipe(tmp_path) -> None:
    pytest.importorskip("torch")
    make_checkpoint(tmp_path / "model")
    model, text = add_tokenizer(tmp_path / "model"), tmp_path / "text.txt"
    text.write_text("\n".join(words(20, seed) for seed in range(20)))
    choices = {"quantizer": "gptq", "calibration": text, "samples": 4, "sequence_length": 16, "seed": 3}
    planned = zoo.plan(model, "int4", **choices)
    assert planned.recipe.calibration is not None
    package = zoo.build(model, "int4", output=tmp_path / "package", **choices)
    assert package.manifest.recipe_hash == planned.recipe_hash
    assert package.manifest.recipe == planned.recipe
    other = zoo.plan(model, "int4", **{**choices, "seed": 4}, quantizer_options=None)
    assert other.recipe_hash != planned.recipe_hash


def test_a_word_that_no_choice_has_is_an_error() -> None:
    for function in (zoo.build, zoo.plan):
        with pytest.raises(TypeError, match="quantiser"):
            function("zoo-tiny", quantiser="rtn")


def test_what_reads_no_weights_has_no_plan(monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for model in ("zoo-tiny", "llama2-7b"):  # weights that are here, and weights that are not
        with pytest.raises(UsageError, match="target 'vllm' reads no weights, so there is nothing to plan"):
            zoo.plan(model, "fp16", target="vllm", target_options={"weights": "original"})


def test_more_threads_are_planned_with_more_memory(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("zoo.package.memory.resident", lambda: 0)
    few, many = (zoo.plan("zoo-tiny", threads=threads).peak_memory_bytes for threads in (1, 8))
    assert few < many
    for threads, expected in (("1", few), ("8", many)):
        said = CliRunner().invoke(app, ["build", "zoo-tiny", "--dry-run", "--json", "--threads", threads])
        assert f'"peak_memory_bytes": {expected}' in said.stdout


def test_an_argument_that_nobody_knows_is_one(tmp_path) -> None:
    with pytest.raises(TypeError, match="unexpected argument 'blocksize'; there are weights, "):
        zoo.build("zoo-tiny", "int4", output=tmp_path / "package", blocksize=64)
    assert not (tmp_path / "package").exists()


def test_what_is_built_can_be_opened(tmp_path) -> None:
    package = zoo.build("zoo-tiny", "int4", output=tmp_path / "package")
    answer = zoo.open(package).generate("Once upon a time", max_new_tokens=2)
    assert len(answer.token_ids) == 2
