"""Answers of random weights to random schemas: what came of each, counted."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator

from tests.structured.schemas import SchemaMaker
from zoo.engine import Limits, Sampling, Scheduler
from zoo.errors import UsageError
from zoo.structured import Structure

LONGEST = 250
CLOSING = ('"', "}", "]", '"}', '"]', ",")
"""What random weights seldom choose, and must for an answer to end; a bias has them say it sooner."""


def answers(engine: Any, count: int, seed: int, **options: Any) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Have schemas answered, many in a batch.

    Yields:
        A schema; how it ended: ``refused``, ``stop``, ``length`` or ``failed``; the refusal, the text or the error.
    """
    maker = SchemaMaker(random.Random(seed))
    tokenizer = engine.tokenizer
    ids = {tokenizer.id_of(text) for text in CLOSING} - {None}
    bias = tuple((token, 4.0) for token in ids)
    prompts = [engine.encode(text) for text in ("Answer in JSON:", "Once upon a time there was a little dog.", "{")]
    with Scheduler(engine, slots=8, **options) as scheduler:
        waiting: list[tuple[dict[str, Any], Any]] = []
        for at in range(count):
            schema = maker.schema()
            try:
                constraint = engine.guide.follow(Structure("schema", schema))
            except UsageError as error:
                yield schema, "refused", str(error)
                continue
            sampling = Sampling(temperature=(0.0, 0.7, 1.5)[at % 3], seed=at, logit_bias=bias)
            limits = Limits(LONGEST, stop_token_ids=engine.stop_token_ids)
            waiting.append((schema, scheduler.submit(prompts[at % 2], limits, sampling, constraint=constraint)))
            if len(waiting) >= 64:
                yield from (_result(*asked) for asked in waiting)
                waiting = []
        yield from (_result(*asked) for asked in waiting)


def _result(schema: dict[str, Any], ticket: Any) -> tuple[dict[str, Any], str, Any]:
    try:
        generation = ticket.result(300)
    except Exception as error:
        return schema, "failed", error
    return schema, generation.finish_reason, generation.text


def tally(results: Iterator[tuple[dict[str, Any], str, Any]]) -> tuple[Counter[str], list[str]]:
    """Count how answers ended, and describe those that are wrong: an answer that ended is JSON that fits its schema."""
    counts: Counter[str] = Counter()
    wrong = []
    for schema, how, found in results:
        counts[how] += 1
        if how == "stop":
            try:
                Draft202012Validator(schema).validate(json.loads(found))
            except Exception as error:
                wrong.append(f"{json.dumps(schema, ensure_ascii=False)} → {found!r}: {type(error).__name__}: {error}")
        elif how == "failed":
            wrong.append(f"{json.dumps(schema, ensure_ascii=False)}: {type(found).__name__}: {found}")
    return counts, wrong
