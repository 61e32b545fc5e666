"""Tasks of embedding models and rerankers, from local files in MTEB's layout.

- ``sts``: a file of JSON lines with ``sentence1``, ``sentence2``, ``score``; the rank correlation of the cosines and
  the scores (Spearman).
- ``retrieval``: a folder with ``corpus.jsonl`` (``_id``, ``title``, ``text``), ``queries.jsonl`` (``_id``, ``text``)
  and ``qrels/test.tsv`` (query, document, relevance, below a line of names); nDCG at 10.
- ``reranking``: a file of JSON lines with ``query``, ``positive``, ``negative``; mean average precision.

Files may be compressed (``.gz``). Layout: github.com/embeddings-benchmark/mteb and github.com/beir-cellar/beir.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.embedding.pooling import normalized
from zoo.embedding.results import Embeddings
from zoo.errors import UsageError, ZooError
from zoo.verify.embeddings import correlation

Progress = Callable[[str, int, int], None]
AT = 10
"""How many documents of a query count."""
LONGEST_LINE = 16 * 2**20
MOST_LINES = 10_000_000
BLOCK = 512
"""Queries whose similarities to all documents are held at a time."""


def score_task(name: str, engine: Any, data: Path, limit: int | None, progress: Progress) -> dict[str, Any]:
    """Score one task.

    Args:
        engine: it has ``embeddings``, for ``reranking`` it has ``scores``.
        data: the file or folder.
        limit: only so many pairs or queries.

    Returns:
        The figures: ``samples``, ``cut_short``, and the task's metric.

    Raises:
        UsageError: there is no such task, or the engine does not do what it needs.
        ZooError: a file is missing or not what it must be.
    """
    task = TASKS.get(name)
    if task is None:
        raise UsageError(f"task {name!r} is not one for texts; there are {', '.join(TASKS)}")
    needed = "scores" if name == "reranking" else "embeddings"
    if needed not in engine.abilities:
        raise UsageError(f"task {name!r} needs a package with {needed}, which {engine.package.name} is not")
    return task(engine, data, limit, progress)


def _sts(engine: Any, data: Path, limit: int | None, progress: Progress) -> dict[str, Any]:
    rows = _rows(data, ("sentence1", "sentence2"), limit)
    scores = np.array([_number(row, "score", data) for row in rows])
    first = _embed(engine, [row["sentence1"] for row in rows], None, progress)
    second = _embed(engine, [row["sentence2"] for row in rows], None, progress)
    cosines = (normalized(first.vectors) * normalized(second.vectors)).sum(1)
    cut = sum(first.truncated) + sum(second.truncated)
    return {"samples": len(rows), "cut_short": cut, "spearman": correlation(cosines, scores)}


def _retrieval(engine: Any, data: Path, limit: int | None, progress: Progress) -> dict[str, Any]:
    if not data.is_dir():
        raise ZooError(f"{data}: retrieval reads a folder with corpus.jsonl, queries.jsonl and qrels/test.tsv")
    relevant = _qrels(_existing(data, "qrels/test.tsv", "qrels.tsv"))
    queries = [row for row in _rows(_existing(data, "queries.jsonl"), ("_id", "text")) if row["_id"] in relevant]
    queries = queries[:limit]
    corpus = _rows(_existing(data, "corpus.jsonl"), ("_id", "text"))
    texts = [f"{row.get('title') or ''} {row['text']}".strip() for row in corpus]
    documents = _embed(engine, texts, "document", progress)
    asked = _embed(engine, [row["text"] for row in queries], "query", progress)
    ids, gains = [row["_id"] for row in corpus], []
    known, sought = normalized(documents.vectors), normalized(asked.vectors)
    for start in range(0, len(queries), BLOCK):
        similar = sought[start : start + BLOCK] @ known.T
        for row, query in zip(similar, queries[start : start + BLOCK], strict=True):
            best = np.argsort(-row, kind="stable")[:AT]
            gains.append(ndcg([relevant[query["_id"]].get(ids[at], 0) for at in best], relevant[query["_id"]].values()))
    cut = sum(documents.truncated) + sum(asked.truncated)
    return {"samples": len(queries), "cut_short": cut, f"ndcg@{AT}": float(np.mean(gains))}


def _reranking(engine: Any, data: Path, limit: int | None, progress: Progress) -> dict[str, Any]:
    rows, precisions, cut = _rows(data, ("query",), limit), [], 0
    for index, row in enumerate(rows):
        progress("queries", index, len(rows))
        positive, negative = (_texts(row, key, data) for key in ("positive", "negative"))
        ranked = engine.rank(row["query"], [*positive, *negative], truncate=True)
        cut += sum(ranking.truncated for ranking in ranked)
        hits = np.array([ranking.index < len(positive) for ranking in ranked])
        precisions.append(float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean()))
    return {"samples": len(rows), "cut_short": cut, "map": float(np.mean(precisions))}


TASKS = {"sts": _sts, "retrieval": _retrieval, "reranking": _reranking}


def ndcg(found: Sequence[float], all_gains: Any) -> float:
    """The discounted gain of what was found, over the best that there is (Järvelin and Kekäläinen, 2002)."""
    discounts = 1 / np.log2(np.arange(2, AT + 2))
    best = sorted(all_gains, reverse=True)[:AT]
    ideal = float(np.dot(best, discounts[: len(best)]))
    return float(np.dot(found, discounts[: len(found)])) / ideal if ideal else 0.0


def _embed(engine: Any, texts: Sequence[str], prompt: str | None, progress: Progress) -> Embeddings:
    progress("texts", 0, len(texts))
    named = prompt if prompt in engine.modules.prompts else None
    done: Embeddings = engine.embed(texts, prompt=named, truncate=True)
    return done


def _existing(folder: Path, *names: str) -> Path:
    """Find a file of a folder, compressed or not."""
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise ZooError(f"{folder}: has no {names[0]}")


def _lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            count = 0
            while line := file.readline(LONGEST_LINE):
                count += 1
                if len(line) == LONGEST_LINE or count > MOST_LINES:
                    raise ZooError(f"{path}: line {count} is longer, or there are more of them, than is read")
                if line.strip():
                    yield line.decode("utf-8")
    except (OSError, EOFError) as error:
        raise ZooError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except UnicodeDecodeError as error:
        raise ZooError(f"{path}: is not UTF-8 at byte {error.start} of a line") from None


def _rows(path: Path, keys: Sequence[str], limit: int | None = None) -> list[dict[str, Any]]:
    """Read JSON lines that have texts under ``keys``."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(_lines(path), 1):
        if limit is not None and len(rows) >= limit:
            break
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise ZooError(f"{path}: line {number} is not JSON") from None
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) and row[key] for key in keys):
            raise ZooError(f"{path}: line {number} has no text under {' and '.join(keys)}")
        rows.append(row)
    if not rows:
        raise ZooError(f"{path}: holds no rows")
    return rows


def _number(row: dict[str, Any], key: str, path: Path) -> float:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ZooError(f"{path}: a row has no number under {key}")
    return float(value)


def _texts(row: dict[str, Any], key: str, path: Path) -> list[str]:
    texts = row.get(key)
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise ZooError(f"{path}: a row has no texts under {key}")
    return texts


def _qrels(path: Path) -> dict[str, dict[str, float]]:
    """Read which documents are relevant to a query: query → document → relevance, above 0."""
    relevant: dict[str, dict[str, float]] = {}
    for number, line in enumerate(_lines(path), 1):
        parts = line.rstrip("\r\n").split("\t")
        try:
            query, document, gain = parts
            value = float(gain)
        except ValueError:
            if number == 1:
                continue  # the names of the columns
            raise ZooError(f"{path}: line {number} is not query, document and relevance between tabs") from None
        if value > 0:
            relevant.setdefault(query, {})[document] = value
    if not relevant:
        raise ZooError(f"{path}: names no relevant document")
    return relevant
