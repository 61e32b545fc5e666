"""The matrix, random prompts, arrivals, and the filter of conversations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from zoo.bench.prompts import fixed, id_maker, poisson_arrivals, random_ids, varied
from zoo.bench.sharegpt import draw
from zoo.bench.words import WORDS, Words
from zoo.bench.workload import Cell, Prompt, matrix
from zoo.errors import ZooError


def test_the_matrix_is_every_combination_with_five_prompts_a_request_at_once() -> None:
    cells = matrix()
    lengths = {(cell.input_len, cell.output_len, cell.concurrency) for cell in cells}
    assert lengths == set(itertools.product((510, 1020, 2040), (512, 1024, 2048), (1, 4, 8, 16)))
    assert all(cell.prompts == 5 * cell.concurrency for cell in cells)
    assert {cell.prompts for cell in matrix(3)} == {3}


@pytest.mark.parametrize(("context", "fitting"), [(1022, 4), (1021, 0), (2048, 16), (4096, 36), (None, 36)])
def test_what_fits_a_context(context, fitting) -> None:
    assert sum(cell.fits(context) for cell in matrix()) == fitting


def test_random_prompts_have_their_length_begin_as_they_must_and_avoid_special_tokens() -> None:
    ids = random_ids(np.random.default_rng(0), 400, 50, lead=[1], avoid={0, 1, 2, 49, 77})
    assert len(ids) == 400
    assert ids[0] == 1
    assert set(ids[1:]) == set(range(3, 49))
    assert random_ids(np.random.default_rng(0), 1, 50, lead=[1]) == [1]


def test_rounds_and_the_warm_up_have_prompts_of_their_own_and_a_seed_repeats_them() -> None:
    cell = Cell(input_len=12, output_len=3, concurrency=2, prompts=4)

    def contents(seed: int) -> list[tuple[int, ...]]:
        workload = fixed(cell, id_maker(1000, [1], {2}), seed=seed, request_rate=None)
        return [tuple(one.content) for number in (-1, 0, 1) for one in workload.draw(number, 4)]

    first = contents(0)
    assert len(set(first)) == 12
    assert contents(0) == first
    assert not set(contents(1)) & set(first)


def test_arrivals_are_a_poisson_process() -> None:
    arrivals = poisson_arrivals(20_000, 4.0, seed=3)
    gaps = np.diff(arrivals)
    assert arrivals[0] == 0
    assert np.mean(gaps) == pytest.approx(1 / 4, rel=0.03)
    assert np.std(gaps) == pytest.approx(1 / 4, rel=0.03)  # of an exponential, as large as the mean
    assert poisson_arrivals(5, 4.0, seed=3) == arrivals[:5]
    assert poisson_arrivals(5, 4.0, seed=4) != arrivals[:5]


def words(count: int) -> str:
    return " ".join("w" for _ in range(count))


def conversation(asked: int, answered: int) -> list[tuple[str, str]]:
    return [("human", words(asked)), ("gpt", words(answered)), ("human", "more")]


@pytest.mark.parametrize(
    ("turns", "passes"),
    [
        (conversation(4, 4), True),
        (conversation(3, 40), False),
        (conversation(40, 3), False),
        (conversation(1024, 1024), True),
        (conversation(1025, 10), False),
        (conversation(1024, 1025), False),
        ([("human", words(10))], False),
        ([], False),
    ],
)
def test_the_filter_of_conversations(turns, passes) -> None:
    wanted = {"prompts": 1, "seed": 0, "context": None}
    if passes:
        drawn = draw([turns], str.split, **wanted)
        assert (drawn.prompts[0].tokens, drawn.prompts[0].output_len) == (
            len(turns[0][1].split()),
            len(turns[1][1].split()),
        )
    else:
        with pytest.raises(ZooError, match="of 1 conversations, 0 pass the filter"):
            draw([turns], str.split, **wanted)


def test_conversations_over_the_context_are_left_out_and_counted() -> None:
    turns = [conversation(60, 60), conversation(30, 30), conversation(63, 64), conversation(63, 65)]
    drawn = draw(turns, str.split, prompts=3, seed=0, context=128)
    assert (drawn.over_context, drawn.read) == (1, 4)
    with pytest.raises(ZooError, match="4 that do not fit the context of 32"):
        draw(turns, str.split, prompts=1, seed=0, context=32)
    shorter = draw(turns, str.split, prompts=4, seed=0, context=128, output_len=8)
    assert {one.output_len for one in shorter.prompts} == {8}


def test_a_seed_draws_among_more_conversations_than_are_wanted() -> None:
    turns = [conversation(10 + one, 8) for one in range(40)]

    def lengths(seed: int) -> list[int]:
        return [one.tokens for one in draw(turns, str.split, prompts=5, seed=seed, context=None).prompts]

    assert lengths(0) == lengths(0)
    assert lengths(0) != lengths(1)
    assert max(lengths(0)) < 30  # four times five were read, no more


def test_rounds_of_conversations_share_no_prompt() -> None:
    prompts = [Prompt(str(one), 1, 1) for one in range(7)]
    workload = varied(
        "chats", prompts, rounds=2, warmup=1, concurrency=3, seed=0, request_rate=0.5
    )  # fmt: skip
    sent = [[one.content for one in workload.draw(number, count)] for number, count in ((-1, 1), (0, 3), (1, 3))]
    assert sent == [["0"], ["1", "2", "3"], ["4", "5", "6"]]
    assert (workload.label, workload.prompts) == ("chats ×3 at 0.5/s", 3)
    assert workload.arrivals is not None
    assert workload.arrivals(0) != workload.arrivals(1)


def test_words_are_counted_by_what_the_server_says() -> None:
    text = Words(each=1.5, before=1.0).text(np.random.default_rng(0), 301)
    assert len(text.split()) == 200
    assert set(text.split()) <= set(WORDS)
