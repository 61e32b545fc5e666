"""``/v1/embeddings`` and ``/v1/rerank``: answers of the engine, usage, limits, batches of several requests."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.encoders import TEXTS, describe, make_encoder
from tests.server.serving import Served, post, serving
from zoo.embedding.queue import ROUND, TextQueue
from zoo.embedding.tokens import TextTokens
from zoo.errors import ZooError

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("encoders")
    make_encoder(folder / "embeds")
    describe(folder / "embeds", longest=10, prompts={"query": "red house "})
    make_encoder(folder / "ranks", labels=1)
    return [zoo.build(folder / name, "fp32", output=folder / f"{name}-p").path for name in ("embeds", "ranks")]


@pytest.fixture(scope="module")
def encoders(packages: list[Path]) -> Iterator[Served]:
    with serving(packages, threads=1) as one:
        yield one


def test_openais_client_gets_the_engines_vectors(encoders: Served, packages: list[Path]) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{encoders.url}/v1", api_key="none", max_retries=0, timeout=60)
    wanted = zoo.open(packages[0]).embed(["dog", "blue house"])
    for form in ({}, {"encoding_format": "float"}):  # the client asks for base64 unless told otherwise
        done = client.embeddings.create(model="embeds", input=["dog", "blue house"], **form)
        np.testing.assert_allclose([one.embedding for one in done.data], wanted.vectors, atol=1e-6)
        assert (done.usage.prompt_tokens, done.usage.total_tokens) == (7, 7)
    short = client.embeddings.create(model="embeds", input="dog", dimensions=5).data[0].embedding
    np.testing.assert_allclose(short, zoo.open(packages[0]).embed("dog", dimensions=5).vectors[0], atol=1e-6)
    assert [(one.id, one.task) for one in client.models.list()] == [("embeds", "embed"), ("ranks", "rank")]


def test_base64_is_float32(encoders: Served) -> None:
    asked = {"model": "embeds", "input": "dog"}
    _, _, plain = post(encoders, "/v1/embeddings", asked)
    _, _, coded = post(encoders, "/v1/embeddings", {**asked, "encoding_format": "base64"})
    raw = base64.b64decode(coded["data"][0]["embedding"])
    np.testing.assert_allclose(np.frombuffer(raw, "<f4"), plain["data"][0]["embedding"], atol=1e-7)


def test_a_prompt_is_put_before_texts(encoders: Served) -> None:
    def vector(**asked: Any) -> Any:
        return post(encoders, "/v1/embeddings", {"model": "embeds", **asked})[2]["data"][0]["embedding"]

    assert vector(input="dog", prompt_name="query") == vector(input="red house dog")


def test_documents_are_ranked_in_the_shape_of_cohere_and_jina(encoders: Served, packages: list[Path]) -> None:
    wanted = zoo.open(packages[1]).rank("the cat", TEXTS)
    asked = {"model": "ranks", "query": "the cat", "documents": [*TEXTS[:3], {"text": TEXTS[3]}]}
    status, _, done = post(encoders, "/v1/rerank", {**asked, "top_n": 2, "return_documents": True})
    assert status == 200
    assert [one["index"] for one in done["results"]] == [one.index for one in wanted[:2]]
    assert [one["relevance_score"] for one in done["results"]] == pytest.approx(
        [one.score for one in wanted[:2]], abs=1e-5
    )
    assert done["results"][0]["document"] == {"text": TEXTS[wanted[0].index]}
    assert done["usage"]["total_tokens"] == sum(one.tokens for one in wanted)
    assert done["meta"]["billed_units"] == {"search_units": 1}
    assert len(post(encoders, "/v2/rerank", asked)[2]["results"]) == 4


def test_truncation_is_shown(encoders: Served) -> None:
    asked = {"model": "embeds", "input": ["dog", "cat " * 30]}
    status, _, refused = post(encoders, "/v1/embeddings", asked)
    assert (status, refused["error"]["message"]) == (
        400, "text 1 has 30 tokens; embeds-p takes 8; cut it, or let it be cut (truncate)",
    )  # fmt: skip
    _, _, done = post(encoders, "/v1/embeddings", {**asked, "truncate": True})
    assert [one.get("truncated") for one in done["data"]] == [None, True]
    assert done["usage"] == {"prompt_tokens": 13, "total_tokens": 13, "truncated_texts": 1}


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/embeddings", {"model": "embeds", "input": ""}, 400, "text 0 is empty"),
        ("/v1/embeddings", {"model": "embeds", "input": []}, 400, "input has 0 texts"),
        ("/v1/embeddings", {"model": "embeds", "input": ["x"] * 2049}, 400, "input has 2049 texts"),
        ("/v1/embeddings", {"model": "embeds", "input": [1, 2]}, 400, "check_embedding_ctx_length=False"),
        ("/v1/embeddings", {"model": "embeds", "input": "x", "dimensions": 49}, 400, "dimensions must be 1 to 48"),
        ("/v1/embeddings", {"model": "embeds", "input": "x", "prompt_name": "q"}, 400, "unknown prompt 'q'"),
        ("/v1/embeddings", {"model": "embeds", "input": "x", "encoding_format": "int8"}, 400, "encoding_format"),
        ("/v1/embeddings", {"model": "embeds", "input": "x", "dimension": 4}, 400, "did you mean dimensions"),
        ("/v1/embeddings", {"model": "ranks", "input": "x"}, 400, "'ranks' embeds no texts"),
        ("/v1/embeddings", {"model": "other", "input": "x"}, 404, "unknown model 'other'"),
        ("/v1/rerank", {"model": "embeds", "query": "x", "documents": ["y"]}, 400, "'embeds' ranks no documents"),
        ("/v1/rerank", {"model": "ranks", "query": "", "documents": ["y"]}, 400, "the query is empty"),
        ("/v1/rerank", {"model": "ranks", "query": "x", "documents": []}, 400, "documents has 0 texts"),
        ("/v1/rerank", {"model": "ranks", "query": "x", "documents": [{"title": "y"}]}, 400, "document 0 has no text"),
        ("/v1/completions", {"model": "embeds", "prompt": "dog"}, 400, "generates nothing; ask /v1/embeddings"),
    ],
)
def test_bad_requests_are_answered(path: str, body: Any, status: int, said: str, encoders: Served) -> None:
    code, _, answer = post(encoders, path, body)
    assert code == status
    assert said in answer["error"]["message"]
    assert not encoders.events("error")


def test_many_requests_at_once_get_their_own_answers(encoders: Served, packages: list[Path]) -> None:
    texts = [f"{one} {other}" for one in TEXTS[:2] for other in ("red", "green", "blue", "old", "far")]
    wanted = zoo.open(packages[0]).embed(texts, truncate=True).vectors
    with ThreadPoolExecutor(10) as threads:
        asked = [{"model": "embeds", "input": text, "truncate": True} for text in texts]
        answers = list(threads.map(lambda body: post(encoders, "/v1/embeddings", body)[2], asked))
    np.testing.assert_allclose([one["data"][0]["embedding"] for one in answers], wanted, atol=1e-5)


def test_metrics_count_texts(encoders: Served) -> None:
    post(encoders, "/v1/embeddings", {"model": "embeds", "input": "dog"})
    _, _, text = get(encoders, "/metrics")
    counted = [line for line in text.splitlines() if line.startswith('zoo_prompt_tokens_total{model="embeds"}')]
    assert float(counted[0].split()[-1]) >= 3


def get(served: Served, path: str) -> tuple[int, Any, str]:
    import httpx2

    answer = httpx2.get(f"{served.url}{path}", timeout=30, verify=False)
    return answer.status_code, dict(answer.headers), answer.text


def text(length: int, mark: int) -> TextTokens:
    return TextTokens([mark] * length, [0] * length)


class Recorder:
    """Computes the first id of each text, when it is let."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.go, self.begun = threading.Event(), threading.Event()

    def __call__(self, texts: Any) -> Any:
        self.begun.set()
        self.go.wait(10)
        self.rounds.append([one.ids[0] for one in texts])
        if 99 in self.rounds[-1]:
            raise ZooError("it failed")
        return np.array([one.ids[0] for one in texts], np.float32)


def test_requests_that_wait_are_computed_together_and_share_fairly() -> None:
    compute = Recorder()
    queue = TextQueue(compute, 512)
    first = queue.submit_texts([text(4, 0)])
    assert compute.begun.wait(10)
    long = queue.submit_texts([text(ROUND // 4, 1)] * 8)
    short = queue.submit_texts([text(5, 2)])
    gone = queue.submit_texts([text(5, 3)])
    gone.cancel()
    compute.go.set()
    assert (first.result(10), short.result(10), long.result(10)) == ([0.0], [2.0], [1.0] * 8)
    assert compute.rounds[1] == [1, 1, 2]  # the long request leaves room for the short one
    assert 3 not in [mark for one in compute.rounds for mark in one]
    stats = queue.stats()
    assert (stats.requests, stats.finished, stats.cancelled, stats.waiting) == (4, 3, 1, 0)
    queue.close()
    with pytest.raises(ZooError, match="closed"):
        queue.submit_texts([text(1, 1)])


def test_a_round_that_fails_fails_its_requests_alone() -> None:
    compute = Recorder()
    compute.go.set()
    queue = TextQueue(compute, 512)
    with pytest.raises(ZooError, match="it failed"):
        queue.submit_texts([text(1, 99)]).result(10)
    assert queue.submit_texts([text(1, 5)]).result(10) == [5.0]
    assert json.dumps(queue.stats().failed) == "1"
    queue.close(drain=True)
