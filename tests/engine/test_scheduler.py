"""Many requests over one session: each gets the answer that it would get alone."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import zoo
from tests.engine.made import VOCAB, make_package
from zoo.engine import Limits, Piece, QueueFull, Sampling, Scheduler, Ticket
from zoo.engine.batching import batching_effect
from zoo.errors import UsageError, ZooError

CONTEXT = 512


@pytest.fixture(scope="module", params=["fp32", "int8"])
def engine(request, tmp_path_factory):
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("scheduler")
    return make_package(folder, precision=request.param, max_position_embeddings=CONTEXT)[0]


def prompts(count: int, seed: int = 0, shortest: int = 3, longest: int = 90) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(3, VOCAB, random.integers(shortest, longest)).tolist() for _ in range(count)]


def first_difference(one: list[int], other: list[int]) -> int | None:
    return next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)


def same_or_tied(engine, prompt: list[int], found: list[int], alone: list[int], tie: float) -> int:
    """Check that two answers part only where the two best logits are tied; return how often they part (0 or 1)."""
    at = first_difference(found, alone)
    if at is None:
        assert found == alone
        return 0
    logits = np.sort(engine.logits([*prompt, *alone[:at]], 1)[0])
    assert logits[-1] - logits[-2] <= tie, f"token {at}: {found[at]} for {alone[at]}, though the best is clear"
    return 1


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_greedy_answers_are_those_of_the_request_alone(engine, slots) -> None:
    limits = Limits(max_new_tokens=24)
    asked = prompts(12)
    tie = 2 * batching_effect(engine.session)
    with Scheduler(engine, slots=slots) as scheduler:
        tickets = [scheduler.submit(prompt, limits) for prompt in asked]
        found = [ticket.result(60) for ticket in tickets]
        stats = scheduler.stats()
    parted = 0
    for prompt, generation in zip(asked, found, strict=True):
        alone = engine.generate(prompt, max_new_tokens=24, ignore_eos=True)
        assert generation.finish_reason == "length"
        parted += same_or_tied(engine, prompt, generation.token_ids, alone.token_ids, tie)
    assert parted <= len(asked) // 3
    assert (stats.finished, stats.running, stats.waiting) == (12, 0, 0)
    assert stats.output_tokens == 12 * 24
    assert stats.prompt_tokens == sum(map(len, asked))


def test_each_request_has_its_own_sampling_stops_and_length(engine) -> None:
    prompt = prompts(1, seed=3)[0]
    with Scheduler(engine, slots=4) as scheduler:
        sampled = [scheduler.submit(prompt, Limits(16), Sampling(temperature=1.0, seed=seed)) for seed in (1, 1, 2)]
        short = scheduler.submit(prompt, Limits(3))
        first = engine.generate(prompt, max_new_tokens=8, ignore_eos=True).token_ids
        ended = scheduler.submit(prompt, Limits(16, stop_token_ids=frozenset(first[4:5])))
        one, same, other = (ticket.result(60).token_ids for ticket in sampled)
        assert one == same != other
        assert len(short.result(60).token_ids) == 3
        assert ended.result(60).finish_reason == "stop"
        assert len(ended.generation.token_ids) <= 4
    assert all(len(ticket.token_times) == len(ticket.generation.token_ids) for ticket in sampled)
    assert all(ticket.submitted <= ticket.started <= ticket.first_token <= ticket.finished for ticket in sampled)


def test_pieces_come_while_others_run_and_make_up_the_text(engine) -> None:
    with Scheduler(engine, slots=2) as scheduler:
        tickets = [scheduler.submit(prompt, Limits(12)) for prompt in prompts(3, seed=4)]
        for ticket in tickets:
            assert "".join(piece.text for piece in ticket) == ticket.result(60).text


def test_a_long_prompt_lets_running_answers_go_on(engine) -> None:
    long = prompts(1, seed=8, shortest=400, longest=401)[0]
    joined: list[Ticket] = []
    with Scheduler(engine, slots=2, prefix_cache_bytes=0) as scheduler:

        def running(piece: Piece) -> None:
            if not joined:  # with the first token, so that there are enough left
                joined.append(scheduler.submit(long, Limits(1)))

        first = scheduler.submit(prompts(1)[0], Limits(60), on_piece=running)
        first.result(60)
        (second,) = joined
        second.result(60)
    # 400 tokens in chunks of 128 take four steps; the running answer got steps of its own between them.
    between = sum(1 for at in first.token_times if second.started < at < second.first_token)
    assert between >= 3


def test_where_steps_are_slow_a_prompt_takes_short_ones(engine, monkeypatch) -> None:
    long = prompts(1, seed=8, shortest=160, longest=161)[0]
    steps: list[int] = []
    step = engine.session.step

    def slow(slots, rows, **options):
        steps.append(max(len(row.ids) for row in rows))
        if steps[-1] > 1:
            time.sleep(0.02 * steps[-1])
        return step(slots, rows, **options)

    monkeypatch.setattr(engine.session, "step", slow)
    joined: list[Ticket] = []
    with Scheduler(engine, slots=2, prefix_cache_bytes=0) as scheduler:
        first = scheduler.submit(
            prompts(1)[0], Limits(60), on_piece=lambda piece: joined or joined.append(scheduler.submit(long, Limits(1)))
        )
        first.result(60)
        joined[0].result(60)
    chunks = [size for size in steps[1:] if size > 1]
    assert set(chunks[1:-1]) == {8}  # at 20 ms a token and more, the fewest
    assert sum(chunks) >= 160


def test_answers_and_prompts_share_steps(engine, monkeypatch) -> None:
    """A step brings every answer on and computes prompts beside them, several of them where they are short."""
    steps: list[dict[int, int]] = []
    step = engine.session.step

    def watched(slots, rows, **options):
        steps.append({row.slot: len(row.ids) for row in rows})
        return step(slots, rows, **options)

    monkeypatch.setattr(engine.session, "step", watched)
    monkeypatch.setattr("zoo.engine.scheduler.STALL_SECONDS", 60.0)
    short = prompts(3, seed=4, shortest=20, longest=21)
    joined: list[Ticket] = []

    def join(piece: Piece) -> None:
        if not joined:
            joined.extend(scheduler.submit(prompt, Limits(4)) for prompt in short)

    with Scheduler(engine, slots=4, prefix_cache_bytes=0) as scheduler:
        first = scheduler.submit(prompts(1)[0], Limits(20), on_piece=join)
        first.result(60)
        tickets = [first, *joined]
        texts = [ticket.result(60).token_ids for ticket in tickets]
    mixed = [tokens for tokens in steps if max(tokens.values()) > 1 and len(tokens) > 1]
    assert mixed[0] == {0: 1, 1: 20, 2: 20, 3: 20}
    assert len(steps) == 1 + 19
    for ticket, ids in zip(tickets, texts, strict=True):
        alone = engine.generate(ticket.generation.prompt_ids, max_new_tokens=len(ids), ignore_eos=True)
        assert alone.token_ids == ids


class Held:
    """A listener that stops the scheduler at the first piece until it is let go."""

    def __init__(self) -> None:
        self.reached, self._go = threading.Event(), threading.Event()

    def __call__(self, piece: Piece) -> None:
        self.reached.set()
        self._go.wait(60)

    def let_go(self) -> None:
        self._go.set()


def test_a_cancelled_request_frees_its_slot_at_once(engine) -> None:
    asked, held = prompts(3, seed=5), Held()
    with Scheduler(engine, slots=1) as scheduler:
        first = scheduler.submit(asked[0], Limits(400), on_piece=held)
        waiting = scheduler.submit(asked[1], Limits(400))
        assert held.reached.wait(60)
        waiting.cancel()
        first.cancel()
        last = scheduler.submit(asked[2], Limits(2))
        held.let_go()
        assert len(last.result(60).token_ids) == 2
        assert first.result(5).finish_reason == "interrupt"
        assert len(first.generation.token_ids) < 400
        assert waiting.result(5).token_ids == []
        assert scheduler.stats().cancelled == 2


def test_a_prompt_that_begins_like_an_earlier_one_is_not_computed_again(engine) -> None:
    shared = prompts(1, seed=6, shortest=200, longest=201)[0]
    ends = prompts(3, seed=7, longest=20)
    with Scheduler(engine, slots=2) as scheduler:
        scheduler.submit([*shared, *ends[0]], Limits(4)).result(60)
        tickets = [scheduler.submit([*shared, *end], Limits(8)) for end in ends]
        found = [ticket.result(60) for ticket in tickets]
        assert all(ticket.cached_tokens >= 192 for ticket in tickets)
        assert scheduler.stats().cached_tokens == sum(ticket.cached_tokens for ticket in tickets)
        assert scheduler.stats().prefix_cache_bytes > 0
    tie = 2 * batching_effect(engine.session)
    for end, generation in zip(ends, found, strict=True):
        alone = engine.generate([*shared, *end], max_new_tokens=8, ignore_eos=True).token_ids
        same_or_tied(engine, [*shared, *end], generation.token_ids, alone, tie)


def test_the_prefix_cache_stays_within_its_bytes_and_drops_the_oldest(engine) -> None:
    block = 32 * engine.session.token_bytes
    texts = prompts(4, seed=9, shortest=70, longest=71)
    with Scheduler(engine, slots=1, prefix_cache_bytes=5 * block) as scheduler:
        for text in texts:
            scheduler.submit(text, Limits(1)).result(60)
            assert scheduler.stats().prefix_cache_bytes <= 5 * block
        again = [scheduler.submit(text, Limits(1)) for text in reversed(texts[2:])]
        assert [ticket.result(60) and ticket.cached_tokens for ticket in again] == [64, 64]
        first = scheduler.submit(texts[0], Limits(1))
        first.result(60)
        assert first.cached_tokens == 0
    with Scheduler(engine, slots=1, prefix_cache_bytes=0) as scheduler:
        for _ in range(2):
            ticket = scheduler.submit(texts[0], Limits(1))
            ticket.result(60)
            assert ticket.cached_tokens == 0


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_lookup_changes_no_greedy_answer(tmp_path, precision) -> None:
    engine = zoo.open(zoo.build("zoo-tiny", precision, output=tmp_path / "package").path)
    tie = 2 * batching_effect(engine.session)
    story = "Once upon a time there was a dog. The dog lived on a farm. One day the dog met a cat. The cat was happy. "
    asked = [engine.encode(text) for text in (story * 3, "Tell it again: " + story * 2 + "Once upon", "The sun", "A")]
    for slots in (1, 4):
        with Scheduler(engine, slots=slots) as plain, Scheduler(engine, slots=slots, lookup=True) as scheduler:
            tickets = [(plain.submit(prompt, Limits(96)), scheduler.submit(prompt, Limits(96))) for prompt in asked]
            for prompt, (expected, found) in zip(asked, tickets, strict=True):
                same_or_tied(engine, prompt, found.result(60).token_ids, expected.result(60).token_ids, tie)
            assert scheduler.stats().guessed_tokens > 20
    for prompt in asked:
        alone = engine.generate(prompt, max_new_tokens=96)
        guessed = engine.generate(prompt, max_new_tokens=96, lookup=True)
        same_or_tied(engine, prompt, guessed.token_ids, alone.token_ids, tie)


def test_lookup_draws_the_same_tokens_by_the_same_seed(tmp_path) -> None:
    engine = zoo.open(zoo.build("zoo-tiny", "fp32", output=tmp_path / "package").path)
    asked = engine.encode("Once upon a time there was a dog. " * 4)
    for seed in range(3):
        options = {"max_new_tokens": 48, "temperature": 0.6, "seed": seed}
        assert engine.generate(asked, lookup=True, **options).token_ids == engine.generate(asked, **options).token_ids


def test_more_than_may_wait_is_refused(engine) -> None:
    prompt, held = prompts(1)[0], Held()
    with Scheduler(engine, slots=1, waiting=2) as scheduler:
        running = scheduler.submit(prompt, Limits(400), on_piece=held)
        assert held.reached.wait(60)
        waiting = [scheduler.submit(prompt, Limits(1)) for _ in range(2)]
        with pytest.raises(QueueFull, match="2 requests wait"):
            scheduler.submit(prompt, Limits(1))
        running.cancel()
        held.let_go()
        assert all(len(ticket.result(60).token_ids) == 1 for ticket in waiting)


def test_what_does_not_fit_is_refused_and_the_rest_goes_on(engine) -> None:
    bytes_for_64 = 64 * 2 * engine.session.token_bytes
    with Scheduler(engine, slots=2, cache_bytes=bytes_for_64) as scheduler:
        assert scheduler.context == 64
        with pytest.raises(ZooError, match="100 tokens; with 2 requests at a time there is memory for 64"):
            scheduler.submit([5] * 100)
        with pytest.raises(UsageError, match="not in the vocabulary"):
            scheduler.submit([VOCAB])
        generation = scheduler.submit([5] * 60, Limits(100)).result(60)
        assert len(generation.token_ids) == 4
        assert generation.finish_reason == "length"
    with pytest.raises(ZooError, match="use fewer"):
        Scheduler(engine, slots=8, cache_bytes=1000)


def test_closing_ends_or_drains(engine) -> None:
    prompt = prompts(1)[0]
    scheduler = Scheduler(engine, slots=1)
    tickets = [scheduler.submit(prompt, Limits(8)) for _ in range(3)]
    scheduler.close(drain=True)
    assert [len(ticket.result(0).token_ids) for ticket in tickets] == [8, 8, 8]
    with pytest.raises(ZooError, match="being closed"):
        scheduler.submit(prompt)
    scheduler = Scheduler(engine, slots=1)
    tickets = [scheduler.submit(prompt, Limits(400)) for _ in range(3)]
    scheduler.close()
    assert all(ticket.result(0).finish_reason == "interrupt" for ticket in tickets)


def test_a_step_that_fails_ends_its_requests_with_the_reason(engine, monkeypatch) -> None:
    step, fails = engine.session.step, threading.Event()

    def failing(slots, rows, **how):
        if fails.is_set():
            fails.clear()
            raise ZooError("the session failed")
        return step(slots, rows, **how)

    monkeypatch.setattr(engine.session, "step", failing)
    with Scheduler(engine, slots=2) as scheduler:
        fails.set()
        with pytest.raises(ZooError, match="the session failed"):
            scheduler.submit(prompts(1)[0], Limits(4)).result(60)
        assert len(scheduler.submit(prompts(1)[0], Limits(4)).result(60).token_ids) == 4
        assert scheduler.stats().failed == 1


def test_log_probabilities_are_those_of_the_logits(engine) -> None:
    prompt = prompts(1, seed=12)[0]
    with Scheduler(engine, slots=1) as scheduler:
        generation = scheduler.submit(prompt, Limits(3), logprobs=4).result(60)
    logits = engine.logits(prompt, 1)[0].astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum())
    first = generation.logprobs[0]
    assert len(generation.logprobs) == 3
    assert first.token_id == generation.token_ids[0]
    assert first.logprob == pytest.approx(expected[first.token_id], abs=2e-3)
    assert [token for token, _ in first.top] == np.argsort(-expected)[:4].tolist()


def test_many_threads_submit_and_cancel(engine) -> None:
    asked = prompts(24, seed=13, longest=40)
    results: dict[int, int] = {}
    with Scheduler(engine, slots=4) as scheduler:

        def client(number: int) -> None:
            ticket = scheduler.submit(asked[number], Limits(10))
            if number % 5 == 0:
                time.sleep(0.005)
                ticket.cancel()
            results[number] = len(ticket.result(60).token_ids)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        stats = scheduler.stats()
    assert len(results) == 24
    assert all(results[number] == 10 for number in range(24) if number % 5)
    assert (stats.running, stats.waiting) == (0, 0)
    assert stats.finished + stats.cancelled == 24
