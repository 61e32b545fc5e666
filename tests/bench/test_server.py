"""``zoo bench --url`` against a server in this process: well-behaved, and not."""

from __future__ import annotations

import csv
import json
import socket
import xml.etree.ElementTree as ET

import pytest
from typer.testing import CliRunner

import zoo
from tests.bench.openai_server import serving
from tests.engine.made import save_tokenizer
from zoo.cli import app

SMALL = ("--input-len", "20", "--output-len", "6", "--prompts", "4")


def run(*args: object):
    return CliRunner().invoke(app, ["bench", *map(str, args)])


def measured(*args: object) -> tuple[dict, dict]:
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    return printed["settings"], printed["measured"]["workloads"][0]


def fails(*args: object) -> str:
    """Run a command that must fail in one line with exit code 1; return the line."""
    result = run(*args)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    line = result.stderr.strip()
    assert line.startswith("zoo: ")
    assert "\n" not in line
    return line


def refused(*args: object) -> str:
    """Run a command that is wrong usage; return its one line."""
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert "\n" not in result.stderr.strip()
    return result.stderr.strip()


def test_figures_of_a_server_that_takes_its_time() -> None:
    with serving(first_s=0.1, each_s=0.02) as server:
        settings, row = measured("--url", server.url, *SMALL, "--concurrency", 2)
    assert (row["completed"], row["failed"], row["total_output_tokens"]) == (4, 0, 24)
    assert row["total_input_tokens"] == 4 * 20
    assert row["median_ttft_ms"] > 100
    assert row["median_tpot_ms"] > 20
    assert row["median_itl_ms"] > 20
    assert row["median_e2el_ms"] > 100 + 5 * 20
    assert row["output_throughput"] == pytest.approx(24 / row["duration"])
    assert server.most_at_once == 2
    assert settings["asked_for"] == ["ignore_eos", "stream_options"]
    assert all(one["ignore_eos"] and one["temperature"] == 0 for one in server.asked)


def test_the_table_says_everything(tmp_path) -> None:
    with serving() as server:
        result = run("--url", f"{server.url}/v1/", *SMALL, "--csv", tmp_path / "a.csv", "--svg", tmp_path / "a.svg")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "tiny, 20+6 ×1"
    assert [line.split()[0] for line in result.stdout.splitlines()[2:7]] == ["MEAN", "TTFT,", "TPOT,", "ITL,", "end"]
    assert "4 requests completed in" in result.stdout
    assert "80 tokens in, 24 out" in result.stdout
    assert result.stderr == ""
    (row,) = csv.DictReader((tmp_path / "a.csv").open())
    assert (row["label"], row["total_output_tokens"]) == ("20+6 ×1", "24")
    picture = ET.parse(tmp_path / "a.svg").getroot()
    assert len(picture.findall(".//{*}circle")) == 2  # one dot for each of the two panels


def test_latencies_count_from_the_arrival_where_places_are_few() -> None:
    with serving(first_s=0.1) as server:
        _, row = measured(
            "--url", server.url, *SMALL, "--request-rate", 1000, "--concurrency", 1, "--warmup", 0
        )  # fmt: skip
        unlimited, other = measured("--url", server.url, *SMALL, "--request-rate", 1000, "--warmup", 0)
    assert row["p99_ttft_ms"] > 350  # the fourth waits for three others
    assert other["p99_ttft_ms"] < row["p99_ttft_ms"]
    assert unlimited["request_rate"] == 1000
    assert other["label"] == "20+6 at 1000/s"


def test_a_strict_server_is_asked_without_the_fields_that_it_does_not_know() -> None:
    with serving(known=frozenset()) as server:
        settings, row = measured("--url", server.url, *SMALL)
    assert settings["asked_for"] == []
    assert settings["prompts_sized_by"] == "words"
    assert (row["completed"], row["counted_by_pieces"], row["total_output_tokens"]) == (4, 4, 24)


def test_without_usage_pieces_are_counted_and_said_to_be() -> None:
    with serving(usage=False) as server:
        result = run("--url", server.url, *SMALL)
    assert "the server sent no usage: of 4 answers the pieces of text were counted, not the tokens" in result.stdout
    assert "prompts have a word for each token asked for" in result.stdout


def test_short_answers_are_said_to_be() -> None:
    with serving(most=3) as server:
        result = run("--url", server.url, *SMALL)
    assert "4 answers were shorter than asked for" in result.stdout


def test_a_first_event_without_text_is_no_token() -> None:
    with serving(empty_first=True, each_s=0.01) as server:
        _, row = measured("--url", server.url, *SMALL)
    assert row["total_output_tokens"] == 24


def test_answers_that_break_off_are_counted_and_the_others_measured() -> None:
    with serving(break_every=2) as server:
        result = run("--url", server.url, *SMALL, "--prompts", 6, "--warmup", 0)
    assert result.exit_code == 0
    assert "3 requests completed, 3 failed" in result.stdout
    assert "3 failed: the stream ended before the answer did" in result.stdout


def test_busy_counts_as_failed_unless_retries_are_asked_for() -> None:
    # Meeting the server takes three requests: a greeting and two texts whose tokens it counts.
    with serving(busy=2, busy_after=3) as server:
        _, row = measured("--url", server.url, *SMALL, "--warmup", 0)
    assert (row["completed"], row["failed"], row["retried"]) == (2, 2, 0)
    assert row["errors"] == {"the server is busy: 429 too many requests": 2}
    with serving(busy=2, busy_after=3) as server:
        _, row = measured("--url", server.url, *SMALL, "--warmup", 0, "--retries", 5)
    assert (row["completed"], row["failed"], row["retried"]) == (4, 0, 2)


def test_a_server_that_stalls_is_given_up_on() -> None:
    with serving(stall_s=2.0) as server:
        line = fails("--url", server.url, *SMALL, "--timeout", 0.3)
    assert "the server sent nothing for 0.3 s" in line


def test_an_error_in_the_stream_is_its_reason() -> None:
    with serving(error_event="out of memory") as server:
        line = fails("--url", server.url, *SMALL)
    assert "the server broke off: out of memory" in line


def test_several_models_want_a_name_and_unknown_ones_offer_the_nearest() -> None:
    with serving(models=({"id": "tiny-chat"}, {"id": "huge"})) as server:
        assert "serves huge, tiny-chat; say which with --model" in refused("--url", server.url)
        assert "unknown served model 'tiny-chta'; did you mean tiny-chat?" in refused(
            "--url", server.url, "--model", "tiny-chta"
        )
        result = run("--url", server.url, "--model", "huge", *SMALL)
    assert result.stdout.startswith("huge, ")


def test_the_key_is_sent_and_never_shown(monkeypatch) -> None:
    with serving(key="sesame") as server:
        assert "401 no such key; give the right --api-key" in fails("--url", server.url, *SMALL)
        result = run("--url", server.url, *SMALL, "--api-key", "sesame", "--json")
        monkeypatch.setenv("ZOO_API_KEY", "sesame")
        assert run("--url", server.url, *SMALL).exit_code == 0
    assert result.exit_code == 0
    assert "sesame" not in result.output


def test_what_does_not_fit_the_servers_context_is_skipped_in_the_matrix() -> None:
    listed = {"id": "tiny", "max_model_len": 1030}
    with serving(models=(listed,), context=1030) as server:
        result = run("--url", server.url, "--matrix", "--prompts", 1, "--json")
        line = fails("--url", server.url, "--input-len", 1000, "--output-len", 31)
    found = json.loads(result.stdout)["measured"]
    assert [one["label"] for one in found["workloads"]] == [f"510+512 ×{one}" for one in (1, 4, 8, 16)]
    assert len(found["skipped"]) == 32
    assert found["skipped"][0] == {"label": "510+1024 ×1", "reason": "does not fit the context of 1030"}
    assert "prompts of 1000 tokens and answers of 31 do not fit the context of 1030" in line


def test_what_a_server_refuses_is_skipped_by_its_own_words() -> None:
    with serving(context=1030) as server:
        result = run("--url", server.url, "--matrix", "--prompts", 1, "--json")
        line = fails("--url", server.url, "--input-len", 1000, "--output-len", 31)
    found = json.loads(result.stdout)["measured"]
    assert [one["label"] for one in found["workloads"]] == [f"510+512 ×{one}" for one in (1, 4, 8, 16)]
    assert "maximum context length is 1030" in found["skipped"][0]["reason"]
    assert "maximum context length is 1030" in line


@pytest.fixture
def tokenizer(tmp_path):
    return save_tokenizer(tmp_path / "tokenizer", "byte_level")


def test_a_tokenizer_makes_prompts_of_exact_ids(tokenizer) -> None:
    with serving() as server:
        settings, row = measured("--url", server.url, *SMALL, "--tokenizer", tokenizer)
        sent = [one["prompt"] for one in server.asked if isinstance(one["prompt"], list)]
    assert settings["prompts_sized_by"] == "tokenizer"
    assert row["total_input_tokens"] == 80
    assert {len(one) for one in sent} == {8, 20}
    assert all(one[0] == 0 and 1 not in one for one in sent)  # begins as the tokenizer begins, no other special token
    with serving(ids=False) as server:
        assert "takes no prompt of token ids" in fails("--url", server.url, *SMALL, "--tokenizer", tokenizer)


def test_conversations_are_sent_as_text(tokenizer, tmp_path) -> None:
    chats = [
        {
            "conversations": [
                {"from": "human", "value": f"question {one} about it"},
                {"from": "gpt", "value": "an answer"},
            ]
        }
        for one in range(30)
    ]
    (tmp_path / "chats.json").write_text(json.dumps(chats))
    with serving() as server:
        assert "name the served model's package or folder with --tokenizer" in refused(
            "--url", server.url, "--data", tmp_path / "chats.json"
        )
        settings, row = measured(
            "--url", server.url, "--data", tmp_path / "chats.json", "--tokenizer", tokenizer, "--rounds", 2
        )
        sent = [one for one in server.asked if "about it" in one["prompt"]]
    assert settings["dataset"] == "chats.json"
    assert (row["label"], row["completed"], row["input_len"]) == ("chats.json ×1", 10, None)
    assert len({one["prompt"] for one in sent}) == 11  # ten and a warm-up, all different


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    assert "no server answers" in fails("--url", f"http://127.0.0.1:{port}", *SMALL)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ((404, "text/html", "<h1>Not here</h1>"), "this is not an OpenAI-compatible server"),
        ((200, "text/html", "<h1>Welcome</h1>"), "answers with text/html, not with a stream"),
        ((200, "text/event-stream", "data: {nonsense}\n\n"), "the stream holds what is not JSON: {nonsense}"),
        ((200, "text/event-stream", ""), "the stream ended before the answer did"),
        ((500, "application/json", '{"error": {"message": "oh"}}'), "the server failed: 500 oh"),
    ],
)
def test_servers_of_something_else(body, said) -> None:
    with serving(body=body) as server:
        assert said in fails("--url", server.url, *SMALL)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://example.org", "http://", "http://[::1", "http://a:99999"])
def test_what_is_no_address(url) -> None:
    assert "is not an address of a server" in refused("--url", url)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "name what to measure"),
        (("zoo-tiny", "--url", "http://localhost"), "--url measures a server and zoo-tiny is a package"),
        (("zoo-tiny", "--input-len", "0"), "--input-len must be 1 or more, not 0"),
        (("zoo-tiny", "--output-len", "-1"), "--output-len must be 1 or more, not -1"),
        (("zoo-tiny", "--concurrency", "0"), "--concurrency must be 1 or more"),
        (("zoo-tiny", "--prompts", "0"), "--prompts must be 1 or more"),
        (("zoo-tiny", "--prompts", "3", "--concurrency", "4"), "--prompts 3 cannot keep 4 requests running at once"),
        (("zoo-tiny", "--rounds", "0"), "--rounds must be 1 or more"),
        (("zoo-tiny", "--warmup", "-1"), "--warmup must be 0 or more"),
        (("zoo-tiny", "--seed", "-1"), "--seed must be 0 or more"),
        (("zoo-tiny", "--request-rate", "0"), "--request-rate must be above 0"),
        (("zoo-tiny", "--request-rate", "nan"), "--request-rate must be above 0"),
        (("zoo-tiny", "--matrix", "--input-len", "5"), "--matrix and --input-len cannot be used together"),
        (("zoo-tiny", "--matrix", "--request-rate", "5"), "--matrix and --request-rate cannot be used together"),
        (("zoo-tiny", "--data", "x", "--input-len", "5"), "conversations and --input-len cannot be used together"),
        (("zoo-tiny", "--retries", "1"), "--retries is for --url"),
        (("zoo-tiny", "--model", "x"), "--model is for --url"),
        (("--url", "http://localhost", "-p", "int8"), "-p chooses a package"),
        (("--url", "http://localhost", "--retries", "-1"), "--retries must be 0 or more"),
        (("--url", "http://localhost", "--timeout", "0"), "--timeout must be above 0"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(args, said) -> None:
    assert said in refused(*args)


def test_files_that_cannot_be_written_are_refused_before_anything_is_measured(tmp_path) -> None:
    with serving() as server:
        for option in ("--csv", "--svg"):
            assert "there is no folder" in fails("--url", server.url, option, tmp_path / "nowhere" / "x")
            assert "is a folder" in fails("--url", server.url, option, tmp_path)
        assert server.asked == []


def test_from_python() -> None:
    with serving() as server:
        done = zoo.benchmark(url=server.url, input_len=20, output_len=6, prompts=4, concurrency=4)
    assert (done.rows[0].completed, done.report) == (4, None)
    with pytest.raises(zoo.UsageError, match="either a package or the server"):
        zoo.benchmark()


def test_inside_a_running_event_loop() -> None:
    import asyncio

    async def notebook() -> int:
        return zoo.benchmark(url=server.url, input_len=20, output_len=6, prompts=4).rows[0].completed

    with serving() as server:
        assert asyncio.run(notebook()) == 4
