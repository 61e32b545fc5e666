"""``zoo plan``: a model over accelerators, estimated from numbers alone."""

from __future__ import annotations

import json
import math

import pytest
from typer.testing import CliRunner

import zoo
from tests.checkpoints import make_checkpoint
from zoo.cli import app


def run(*args: object):
    return CliRunner().invoke(app, ["plan", *(str(one) for one in args)])


def splits(*args: object) -> dict[tuple[int, int], dict]:
    result = run(*args, "--json")
    assert result.exit_code == 0, result.stderr
    return {(one["tensor"], one["pipeline"]): one for one in json.loads(result.stdout)["splits"]}


def test_a_dense_model_by_hand() -> None:
    found = splits("llama2-70b", "--devices", "8xH100", "-p", "fp16")
    assert (1, 1) not in found  # 138 GB do not fit one device
    eight = found[8, 1]
    weights = 2 * 68_976_648_192
    token = 2 * 2 * 80 * 8 * 128 / 8  # keys and values, two bytes, 80 layers, 8 heads of 128, of one device
    assert eight["device_weight_bytes"] == pytest.approx(weights / 8, rel=1e-9)
    assert eight["kv_tokens"] == int((0.9 * 80e9 - weights / 8) / token)
    read = (weights - 2 * 32000 * 8192) / 8 + 4096 * token  # a row of the embedding is looked up, the rest is read
    added = 160 * (10e-6 + 2 * 7 / 8 * 2 * 8192 / 450e9)
    assert eight["stream_tokens_per_s"] == pytest.approx(1 / (read / 3350e9 + added), rel=1e-6)
    assert (found[2, 2]["layers"], found[2, 2]["replicas"]) == ([40, 40], 2)
    for split in found.values():
        assert split["tensor"] * split["pipeline"] * split["replicas"] == 8
        assert split["tokens_per_s"] <= 8 * 3350e9 / (token * 8 * 4096)  # each token reads its cache, whoever holds it
    one = [found[tensor, 1]["stream_tokens_per_s"] for tensor in (2, 4, 8)]
    assert one == sorted(one)


def test_layers_are_divided_as_evenly_as_they_go() -> None:
    found = splits("llama3.1-405b", "--devices", "32xH100", "-p", "int4")
    for split in found.values():
        assert sum(split["layers"]) == 126
        assert max(split["layers"]) - min(split["layers"]) <= 1
        assert split["tensor"] <= 8  # a node's
    assert found[8, 4]["layers"] == [32, 32, 31, 31]


def test_experts_are_read_as_far_as_tokens_go_through_them() -> None:
    sparse = splits("qwen3-30b-a3b", "--devices", "H200")[1, 1]
    dense = splits("qwen3-32b", "--devices", "H200")[1, 1]
    assert sparse["stream_tokens_per_s"] > 4 * dense["stream_tokens_per_s"]
    weights = json.loads(run("qwen3-30b-a3b", "--devices", "H200", "--json").stdout)["weight_bytes"]
    steps = sparse["tokens_per_s"] / sparse["streams"]
    assert steps * weights < 4800e9  # among so many answers nearly every expert is asked for


def test_a_latent_is_what_engines_keep() -> None:
    result = run("deepseek-v3", "--devices", "16xH200", "-p", "int8", "--json")
    assert json.loads(result.stdout)["kv_bytes_per_token"] == 61 * (512 + 64) * 2


def test_a_package_and_a_checkpoint_are_taken(tmp_path) -> None:
    make_checkpoint(tmp_path / "mine", num_hidden_layers=3)
    package = zoo.build(tmp_path / "mine", "fp32", output=tmp_path / "p").path
    for subject in (tmp_path / "mine", package):
        found = splits(subject, "--devices", "2xa100", "--context", 64)
        assert set(found) == {(1, 1), (1, 2), (2, 1)}
        assert all(math.isfinite(one["tokens_per_s"]) for one in found.values())


def test_what_is_printed_says_that_it_is_an_estimate() -> None:
    result = run("llama3.1-8b", "--devices", "H100")
    assert result.exit_code == 0
    assert "An estimate, not a measurement" in result.stdout
    assert "https://www.nvidia.com/en-us/data-center/h100/" in result.stdout
    assert "zoo build llama3.1-8b -p int8 --target vllm -o OUT" in result.stdout


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("llama2-7b", "--devices", "8xH10"), 2, "unknown device 'H10'; did you mean H100"),
        (("llama2-7b", "--devices", "0xH100"), 2, "takes 1 to 4096 devices, not 0"),
        (("llama2-7b", "--devices", "H100x8x"), 2, "unknown device"),
        (("llama2-7b", "--devices", "8 H100"), 2, "is a number and a device as 8xH100"),
        (("llama2-7b", "--devices", "H100", "-p", "fp23"), 2, "unknown precision 'fp23'"),
        (("llama2-7b", "--devices", "H100", "--context", 5000), 2, "--context must be 1 to 4096"),
        (("llama2-70b", "--devices", "L40S", "-p", "fp16"), 1, "takes 137.95 GB of weights"),
        (("llama2-7x", "--devices", "H100"), 2, "unknown model"),
        (("all-minilm-l6-v2", "--devices", "H100"), 1, "generates no text"),
    ],
)
def test_what_it_refuses_in_one_line(args, code, message) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (code, "")
    (line,) = result.stderr.splitlines()
    assert message in line
