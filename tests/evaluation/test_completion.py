"""Texts after prompts: those of the engine by itself, whatever is written beside them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import zoo
from tests.engine.made import VOCAB
from zoo.engine.sampling import Sampling
from zoo.evaluation.completion import Prompt, complete, cut


def prompts(seed: int = 0, count: int = 11) -> list[Prompt]:
    rng = random.Random(seed)
    draw = lambda length: tuple(rng.randrange(3, VOCAB) for _ in range(length))  # noqa: E731
    shared = draw(30)
    made = [
        Prompt(shared[: rng.randrange(31)] + draw(rng.randrange(1, 20)), (), rng.choice((1, 2, 9, 14)))
        for _ in range(count)
    ]
    return [*made, Prompt((1,), (), 5), Prompt(shared, (), 12, Sampling(temperature=0.9, seed=4))]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_text_does_not_depend_on_its_company(precision: str, request: pytest.FixtureRequest) -> None:
    engine = zoo.open(request.getfixturevalue(precision))
    asked = prompts()
    together = dict(complete(engine, asked))
    assert sorted(together) == list(range(len(asked)))
    assert any(together.values())
    for batch in (1, 3):
        assert dict(complete(engine, asked, batch)) == together
    assert [dict(complete(engine, [one]))[0] for one in asked] == [together[index] for index in range(len(asked))]


def test_greedy_texts_are_the_engines_own(fp32: Path) -> None:
    engine = zoo.open(fp32)
    assert engine.tokenizer is not None
    for prompt, text in zip(prompts(), [dict(complete(engine, [one]))[0] for one in prompts()], strict=True):
        if prompt.sampling.temperature == 0:
            ids = engine.generate(prompt.ids, max_new_tokens=prompt.max_new_tokens).token_ids
            assert text == engine.tokenizer.decode(ids)


def test_a_text_ends_before_a_stop(fp32: Path) -> None:
    engine = zoo.open(fp32)
    whole = dict(complete(engine, [Prompt((1, 50, 60), (), 30)]))[0]
    stop = whole[len(whole) // 2 :][:1]
    assert dict(complete(engine, [Prompt((1, 50, 60), (stop, ""), 30)]))[0] == whole.split(stop)[0]


def test_cutting() -> None:
    assert cut("one. two\nthree", ["\n", ". ", ""]) == "one"
    assert cut("one", []) == "one"
