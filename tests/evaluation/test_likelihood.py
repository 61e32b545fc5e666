"""Scores of continuations: those of transformers, whatever they are computed together with."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.checkpoints import SMALL
from tests.engine.made import VOCAB
from zoo.errors import ZooError
from zoo.evaluation.likelihood import Continuation, Likelihood, questions, rate, score


def requests_of(seed: int = 0, count: int = 24) -> list[Continuation]:
    """Questions that begin alike, with options of one token and of many."""
    rng = random.Random(seed)
    draw = lambda length: tuple(rng.randrange(3, VOCAB) for _ in range(length))  # noqa: E731
    shared = draw(40)
    made = []
    for index in range(count):
        context = (
            (1,) if index == 0 else (1, 5) if index == 1 else shared[: rng.randrange(41)] + draw(rng.randrange(1, 30))
        )
        made += [Continuation(context, draw(rng.choice((1, 1, 2, 3, 9)))) for _ in range(4)]
    return made


def scores(folder: Path, requests: list[Continuation], batch: int = 8) -> list[Likelihood]:
    found = dict(score(zoo.open(folder).session, requests, batch))
    return [found[index] for index in range(len(requests))]


def test_scores_are_those_of_transformers(fp32: Path, checkpoint: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    requests = requests_of()
    for one, found in zip(requests, scores(fp32, requests), strict=True):
        ids = torch.tensor([one.context + one.ids])
        with torch.no_grad():
            logits = model(ids[:, :-1]).logits[0, len(one.context) - 1 :].log_softmax(-1)
        wanted = torch.tensor(one.ids)
        assert found.logprob == pytest.approx(float(logits.gather(1, wanted[:, None]).sum()), abs=2e-4)
        assert found.greedy == bool((logits.argmax(-1) == wanted).all())


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_a_score_does_not_depend_on_its_company(precision: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(precision)
    requests = requests_of(1)
    together = scores(folder, requests)
    for batch in (1, 2, 3):
        assert scores(folder, requests, batch) == together
    shuffled = list(range(len(requests)))
    random.Random(2).shuffle(shuffled)
    again = dict(zip(shuffled, scores(folder, [requests[one] for one in shuffled]), strict=True))
    alone = [scores(folder, [one])[0] for one in requests[:24]]
    assert [again[index] for index in range(len(requests))] == together
    assert alone == together[:24]


def test_options_share_what_they_begin_with(int8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = zoo.open(int8).session
    steps: list[list[int]] = []
    step = session.step

    def watched(slots, rows):
        steps.append([len(row.ids) for row in rows])
        return step(slots, rows)

    monkeypatch.setattr(session, "step", watched)
    context = tuple(range(3, 103))
    dict(score(session, [Continuation(context, (5, 6, 7, option)) for option in range(8, 18)]))
    assert sum(map(sum, steps)) <= 100 + 10 * 4
    assert len(steps) == 3
    steps.clear()
    dict(score(session, [Continuation(context, (option,)) for option in range(8, 18)]))
    assert steps == [[100]]


def test_every_step_is_even(int8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = zoo.open(int8).session
    step = session.step

    def watched(slots, rows):
        assert len(rows) * max(len(row.ids) for row in rows) % 2 == 0
        assert sum(row.keep for row in rows) % 2 == 0
        return step(slots, rows)

    monkeypatch.setattr(session, "step", watched)
    dict(score(session, requests_of(7)))


def test_a_long_text_is_scored_in_bounded_steps(int8: Path) -> None:
    context = SMALL["max_position_embeddings"]
    ids = tuple(3 + index % 97 for index in range(context))
    (found,) = scores(int8, [Continuation((1,), ids)])
    pieces = np.asarray(
        [scores(int8, [Continuation((1, *ids[:at]), ids[at : at + 1])])[0].logprob for at in (0, 7, 200)]
    )
    assert found.logprob < pieces.min()


def test_questions_are_gathered_by_context() -> None:
    requests = [
        Continuation((1, 9), (4,)),
        Continuation((1, 2), (4,)),
        Continuation((1, 9), (4,)),
        Continuation((1, 9), (5,)),
    ]
    assert questions(requests) == [((1, 2), {(4,): [1]}), ((1, 9), {(4,): [0, 2], (5,): [3]})]


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ZooError, match="zoo verify"):
        rate([np.full((1, 4), np.nan, np.float32)], [1])
