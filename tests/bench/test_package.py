"""``zoo bench`` of a package in this process."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import zoo
from tests.checkpoints import make_checkpoint
from zoo.cli import app
from zoo.reports import reports

pytest.importorskip("torch")
SMALL = ("--input-len", "20", "--output-len", "6", "--prompts", "4")


def run(*args: object):
    return CliRunner().invoke(app, ["bench", *map(str, args)])


def fails(*args: object) -> str:
    """Run a command that must fail in one line with exit code 1; return the line."""
    result = run(*args)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert "\n" not in result.stderr.strip()
    return result.stderr.strip()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The bundled small model, with a tokenizer, as int8."""
    return zoo.build("zoo-tiny", "int8", output=tmp_path_factory.mktemp("bench") / "tiny").path


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A model without a tokenizer, and a context in which some of the matrix fits."""
    folder = tmp_path_factory.mktemp("bench")
    numbers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "max_position_embeddings": 1030}
    make_checkpoint(folder / "wide", **numbers)
    return zoo.build(str(folder / "wide"), "fp32", output=folder / "package").path


def test_it_is_measured_and_kept(tiny) -> None:
    result = run(tiny, *SMALL, "--concurrency", 2, "--rounds", 2, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    row = printed["measured"]["workloads"][0]
    assert (row["completed"], row["failed"], row["total_input_tokens"], row["total_output_tokens"]) == (8, 0, 160, 48)
    assert len(row["output_throughput_by_round"]) == 2
    assert 0 < row["median_itl_ms"] <= row["p99_itl_ms"] < row["p99_e2el_ms"]
    assert row["median_ttft_ms"] < row["median_e2el_ms"]
    assert row["output_throughput"] == pytest.approx(48 / row["duration"])
    assert (row["short_answers"], row["counted_by_pieces"]) == (0, 0)
    assert printed["measured"]["load_s"] > 0
    assert printed["measured"]["peak_rss_bytes"] > 30e6
    assert printed["measured"]["highest"]["output_throughput"] == row["output_throughput"]
    (kept,) = reports(printed["recipe_hash"], "bench")
    assert json.loads(kept.model_dump_json()) == printed
    assert printed["settings"].pop("threads") >= 1
    assert printed["settings"] == {
        "workload": "fixed",
        "cells": [{"input_len": 20, "output_len": 6, "concurrency": 2, "prompts": 4}],
        "request_rate": None,
        "warmup": 1,
        "rounds": 2,
        "seed": 0,
        "sampling": "greedy",
        "through": "engine",
        "prefix_cache": False,
    }


def test_the_screen(tiny) -> None:
    result = run(tiny, *SMALL)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("tiny, recipe ")
    assert lines[0].endswith(", 20+6 ×1")
    assert "4 requests completed in" in result.stdout
    assert "80 tokens in, 24 out" in result.stdout
    assert any(line.startswith("load ") and "peak RSS" in line for line in lines)
    assert lines[-1].startswith("report: ")
    assert result.stderr == ""


def test_the_models_own_end_of_text_ends_no_answer(wide) -> None:
    done = zoo.benchmark(wide, input_len=4, output_len=1000, prompts=1, warmup=0)
    assert (done.rows[0].total_output_tokens, done.rows[0].short_answers) == (1000, 0)


def test_the_matrix_skips_what_does_not_fit_and_names_it(wide) -> None:
    result = run(wide, "--matrix", "--prompts", 1, "--warmup", 0)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0:2] for line in lines if "+512 ×" in line and "/" in line] == [
        ["510+512", f"×{one}"] for one in (1, 4, 8, 16)
    ]
    skipped = [line for line in lines if line.startswith("skipped ")]
    assert len(skipped) == 32
    assert "skipped 2040+2048 ×16: does not fit the context of 1030" in skipped


def test_requests_at_a_rate(tiny) -> None:
    done = zoo.benchmark(tiny, input_len=20, output_len=6, prompts=6, request_rate=200.0)
    assert (done.rows[0].completed, done.rows[0].concurrency) == (6, None)
    assert (done.settings["request_rate"], done.settings["slots"]) == (200.0, 8)
    assert done.rows[0].label == "20+6 at 200/s"


def chats(path, count: int, answer: str = "An answer of several words, and then some."):
    talk = [
        {"conversations": [{"from": "human", "value": f"Tell me {one} stories."}, {"from": "gpt", "value": answer}]}
        for one in range(count)
    ]
    path.write_text(json.dumps(talk))
    return path


def test_conversations_of_a_file(tiny, tmp_path) -> None:
    file = chats(tmp_path / "chats.json", 12)
    done = zoo.benchmark(tiny, data=file, prompts=5, concurrency=2, seed=1)
    engine = zoo.open(tiny)
    answer = len(engine.tokenizer.encode("An answer of several words, and then some.", special=False))
    assert (done.rows[0].completed, done.rows[0].total_output_tokens) == (5, 5 * answer)
    assert (done.settings["dataset"], done.settings["prompts"]) == ("chats.json", 5)
    again, other = (
        zoo.benchmark(tiny, data=file, prompts=5, concurrency=2, seed=seed, output_len=4) for seed in (1, 2)
    )
    assert again.rows[0].total_output_tokens == 20
    assert again.settings["prompts_sha256"] != other.settings["prompts_sha256"]


def test_the_declared_dataset_from_a_folder(tiny, tmp_path) -> None:
    chats(tmp_path / "ShareGPT_V3_unfiltered_cleaned_split.json", 8)
    done = zoo.benchmark(tiny, data=tmp_path, prompts=2)
    assert (done.settings["dataset"], done.rows[0].label) == ("sharegpt", "sharegpt ×1")
    with pytest.raises(zoo.ZooError, match="holds no ShareGPT"):
        zoo.benchmark(tiny, dataset="sharegpt", data=tiny, prompts=2)


def test_bad_conversations_are_one_line(tiny, wide, tmp_path) -> None:
    assert "No such file" in fails(tiny, "--data", tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('[{"conversations": [')
    assert "cut.json, line 1: is truncated" in fails(tiny, "--data", tmp_path / "cut.json")
    (tmp_path / "other.json").write_text('[{"text": "no conversation"}]')
    assert "wanted a list as 'conversations'" in fails(tiny, "--data", tmp_path / "other.json")
    few = chats(tmp_path / "few.json", 3)
    assert "of 3 conversations, 3 pass the filter" in fails(tiny, "--data", few)
    assert "has no tokenizer" in fails(wide, "--data", few)


def test_unknown_datasets(tiny) -> None:
    result = run(tiny, "--dataset", "sharegtp")
    assert (result.exit_code, "did you mean sharegpt?" in result.stderr) == (2, True)
    result = run(tiny, "--dataset", "c4")
    assert (result.exit_code, "'c4' has no conversations; datasets that have some: sharegpt" in result.stderr) == (
        2,
        True,
    )
    assert "dataset sharegpt is not on this machine, and the network is off" in fails(tiny, "--dataset", "sharegpt")


def test_what_does_not_fit_and_what_is_not_there(tiny) -> None:
    assert "prompts of 500 tokens and answers of 13 do not fit the context of 512" in fails(
        tiny, "--input-len", 500, "--output-len", 13
    )
    assert "no workload of the matrix fits the context of 512; the smallest is 510+512 ×1" in fails(tiny, "--matrix")
    assert "no package of zoo-tiny is built" in fails("zoo-tiny")
    assert run("zoo-tinny").exit_code == 2


def test_the_catalog_finds_the_speed_in_the_report(tiny) -> None:
    from zoo.catalog.measured import speed, take_apart

    done = zoo.benchmark(tiny, input_len=20, output_len=6, prompts=2)
    assert done.report is not None
    found = speed([done.report])
    assert found is not None
    assert found[:2] == ("highest.output_throughput", done.rows[0].output_throughput)
    assert take_apart(done.report).rows[0].labels == ("20+6 ×1",)
