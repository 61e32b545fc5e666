"""How models may be split, by their declared numbers, and the folder to take elsewhere."""

from __future__ import annotations

import json
import subprocess

import pytest
from typer.testing import CliRunner

from tests.plugins.vllm.conftest import SHOWS
from zoo.cli import app


def build(*args) -> object:
    argv = ["build", *map(str, args), "--target", "vllm", "-p", "fp16", "--target-option", "weights=original"]
    return CliRunner().invoke(app, argv, prog_name="zoo")


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        ("llama-33b", ("--tp", "8"), "tp 8 does not divide the 52 attention heads"),
        # Of the sizes that divide its heads, 13 does not split its MLP.
        ("llama-33b", ("--tp", "13"), "tp 13 does not divide the intermediate size 17920"),
        ("llama-33b", ("--tp", "8"), "tp may be 1, 2, 4"),
        ("llama2-70b", ("--tp", "3"), "tp 3 does not divide the 64 attention heads"),
        ("llama2-70b", ("--pp", "81"), "pp 81 is more than the 80 layers"),
        ("llama2-7b", ("--max-model-len", "4097"), "longer than the context of 4096 tokens"),
        ("qwen2.5-14b", ("--tp", "5"), "tp 5 does not divide the 8 KV heads"),
    ],
)
def test_a_split_that_the_numbers_do_not_allow(tmp_path, model, options, reason) -> None:
    result = build(model, *options, "-o", tmp_path / "out")
    assert result.exit_code == 1, result.output
    assert reason in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("heads", "groups", "tp", "reason"),
    [(24, 2, 3, "not a multiple of the 2 KV heads"), (12, 6, 4, "the 6 KV heads"), (24, 24, 3, "the vocabulary")],
)
def test_a_split_of_other_numbers(heads, groups, tp, reason) -> None:
    from zoo_vllm.rules import broken_tensor_parallel

    from zoo import Architecture

    numbers = Architecture(
        hidden_size=heads * 8, intermediate_size=48, num_hidden_layers=2, num_attention_heads=heads,
        num_key_value_heads=groups, vocab_size=1000, max_position_embeddings=64,
    )  # fmt: skip
    assert reason in next(broken_tensor_parallel(numbers, tp))


def test_splits_that_work(tmp_path) -> None:
    for model, tp, pp in [("llama-33b", 4, 7), ("llama2-70b", 16, 5), ("llama2-7b", 32, 32)]:
        result = build(model, "--tp", tp, "--pp", pp, "-o", tmp_path / model)
        assert result.exit_code == 0, result.stderr


def test_a_folder_to_take_to_another_machine(tmp_path, fake_tool, calls) -> None:
    out = tmp_path / "out"
    result = build("llama2-70b-chat", "--tp", "4", "-o", out, "--json")
    assert result.exit_code == 0, result.stderr
    (command,) = json.loads(result.stdout)["commands"]
    fake_tool("vllm", SHOWS)
    subprocess.run(["sh", out / "serve.sh", "--port", "9100"], check=True)
    (call,) = calls()
    assert ["vllm", *call["argv"]] == [*command["argv"], "--port", "9100"]
    assert call["argv"][1] == "meta-llama/Llama-2-70b-chat-hf"
    assert call["cwd"] == str(out)
    assert (out / "chat_template.jinja").is_file()
