"""Tasks of embedding models and rerankers, from files in MTEB's layout; and how fast a package computes texts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import zoo
from tests.encoders import TEXTS, describe, make_encoder
from zoo.cli import app
from zoo.evaluation.texts import ndcg
from zoo.reports import reports

pytest.importorskip("transformers")
RUN = CliRunner()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("encoders")
    make_encoder(folder / "embeds")
    describe(folder / "embeds", prompts={"query": "red "})
    make_encoder(folder / "ranks", labels=1)
    return {
        name: zoo.build(folder / name, "fp32", output=folder / f"{name}-p", threads=1).path
        for name in ("embeds", "ranks")
    }


def lines(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    raw = "\n".join(json.dumps(row) for row in rows).encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def test_sts_is_the_rank_correlation_of_cosines_and_scores(packages: dict[str, Path], tmp_path: Path) -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    rows = [
        {"sentence1": TEXTS[one], "sentence2": TEXTS[other], "score": float(rng.random())}
        for one in range(4)
        for other in range(4)
    ]
    engine: Any = zoo.open(packages["embeds"])
    vectors = engine.embed(TEXTS).vectors
    wanted = spearmanr((vectors @ vectors.T).ravel().round(5), [row["score"] for row in rows]).statistic
    file = lines(tmp_path / "test.jsonl.gz", rows)
    done = RUN.invoke(app, ["eval", str(packages["embeds"]), "--tasks", "sts", "--data", str(file), "--json"])
    (report,) = json.loads(done.stdout)["reports"]
    assert report["measured"]["spearman"] == pytest.approx(wanted, abs=0.02)
    assert report["measured"]["samples"] == 16
    assert [one.kind for one in reports(engine.package.manifest.recipe_hash)] == ["eval"]


def test_retrieval_is_ndcg_at_ten(packages: dict[str, Path], tmp_path: Path) -> None:
    lines(tmp_path / "corpus.jsonl", [{"_id": f"d{at}", "title": "", "text": text} for at, text in enumerate(TEXTS)])
    lines(tmp_path / "queries.jsonl", [{"_id": "q0", "text": "dog"}, {"_id": "q1", "text": "mat"}])
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td1\t1\nq0\td3\t2\nq0\td0\t0\n")
    engine: Any = zoo.open(packages["embeds"])
    similar = engine.embed("dog", prompt="query").vectors @ engine.embed(TEXTS).vectors.T
    order = np.argsort(-similar[0])
    gains = [{1: 1, 3: 2}.get(int(at), 0) for at in order]
    wanted = sum(gain / np.log2(at + 2) for at, gain in enumerate(gains)) / (2 + 1 / np.log2(3))
    done = RUN.invoke(app, ["eval", str(packages["embeds"]), "--tasks", "retrieval", "--data", str(tmp_path), "--json"])
    measured = json.loads(done.stdout)["reports"][0]["measured"]
    assert measured["ndcg@10"] == pytest.approx(wanted, abs=1e-6)
    assert measured["samples"] == 1  # the other query has no relevant document
    assert ndcg([1, 0], [1, 1]) == pytest.approx(1 / (1 + 1 / np.log2(3)))


def test_reranking_is_mean_average_precision(packages: dict[str, Path], tmp_path: Path) -> None:
    file = lines(tmp_path / "test.jsonl", [{"query": "dog", "positive": [TEXTS[1]], "negative": [TEXTS[0], TEXTS[3]]}])
    engine: Any = zoo.open(packages["ranks"])
    place = [one.index for one in engine.rank("dog", [TEXTS[1], TEXTS[0], TEXTS[3]])].index(0)
    done = RUN.invoke(app, ["eval", str(packages["ranks"]), "--tasks", "reranking", "--data", str(file), "--json"])
    assert json.loads(done.stdout)["reports"][0]["measured"]["map"] == pytest.approx(1 / (place + 1))


@pytest.mark.parametrize(
    ("package", "task", "content", "said"),
    [
        ("embeds", "sts", "not json", "line 1 is not JSON"),
        ("embeds", "sts", '{"sentence1": "a"}', "line 1 has no text under sentence1 and sentence2"),
        ("embeds", "sts", '{"sentence1": "a", "sentence2": "b"}', "a row has no number under score"),
        ("embeds", "sts", "", "holds no rows"),
        ("embeds", "retrieval", "x", "retrieval reads a folder"),
        ("embeds", "hellaswag", "x", "its tasks are sts, retrieval, reranking, not 'hellaswag'"),
        ("embeds", "reranking", "x", "needs a package with scores"),
        ("ranks", "reranking", '{"query": "a", "positive": []}', "a row has no texts under positive"),
    ],
)
def test_bad_files_are_one_line(
    package: str, task: str, content: str, said: str, packages: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "file.jsonl").write_text(content)
    line = ["eval", str(packages[package]), "--tasks", task, "--data", str(tmp_path / "file.jsonl")]
    done = RUN.invoke(app, line)
    assert done.exit_code in (1, 2)
    message = done.stderr or str(done.exception)
    assert said in message
    assert len(message.strip().splitlines()) == 1


def test_texts_a_second_are_measured(packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.stages.texts.SECONDS", 0.05)
    line = ["bench", str(packages["embeds"]), "--input-len", "12", "--concurrency", "3"]
    (row,) = json.loads(RUN.invoke(app, [*line, "--json"]).stdout)["measured"]["workloads"]
    assert (row["tokens"], row["batch"]) == (12, 3)
    assert row["texts_per_s"] == pytest.approx(3e3 / row["median_ms"])
    assert row["tokens_per_s"] == pytest.approx(12 * row["texts_per_s"])
    assert "3 texts of 12 tokens" in RUN.invoke(app, line).stdout
    refused = RUN.invoke(app, ["bench", str(packages["embeds"]), "--input-len", "4000"])
    assert "takes 40 tokens" in (refused.stderr or str(refused.exception))
    said = RUN.invoke(app, ["report", str(packages["embeds"])]).stdout
    assert "texts/s" in said
