"""Conversations → prompts of varied length: ShareGPT, filtered as serving benchmarks filter it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.bench.workload import Prompt
from zoo.errors import ZooError

MIN_TURNS = 2
MIN_PROMPT, MAX_PROMPT = 4, 1024
MIN_OUTPUT = 4
MAX_TOTAL = 2048
"""Limits in tokens; vLLM's ``benchmark_serving.py`` filters ShareGPT by the same ones."""
POOL = 4
"""How many times the wanted prompts are read before some are drawn; a file of that size is seldom read whole."""

Conversation = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Prompts that were drawn, and what was read for them."""

    prompts: list[Prompt]
    read: int
    """Conversations that were looked at."""
    over_context: int
    """Conversations that passed the filter and do not fit the model's context."""


def draw(
    conversations: Iterable[Conversation],
    encode: Callable[[str], Sequence[int]],
    *,
    prompts: int,
    seed: int,
    context: int | None,
    output_len: int | None = None,
) -> Drawn:
    """Draw prompts: a conversation's first turn, to be answered at the length of its second.

    Args:
        encode: text to token ids, without what a tokenizer puts before a text.
        prompts: how many are wanted.
        context: the model's; prompt and answer must fit it together.
        output_len: answer each at this length instead.

    Raises:
        ZooError: fewer pass the filter than are wanted.
    """
    pool: list[Prompt] = []
    read = over = 0
    for turns in conversations:
        read += 1
        one = accepted(turns, encode, output_len)
        if one is None:
            continue
        # One token more: most tokenizers put one before a text.
        if context is not None and one.tokens + 1 + one.output_len > context:
            over += 1
            continue
        pool.append(one)
        if len(pool) == prompts * POOL:
            break
    if len(pool) < prompts:
        too_long = f", {over} that do not fit the context of {context}" if over else ""
        raise ZooError(
            f"of {read} conversations, {len(pool)} pass the filter ({MIN_TURNS} turns, a prompt of {MIN_PROMPT} to "
            f"{MAX_PROMPT} tokens, an answer of {MIN_OUTPUT} or more, {MAX_TOTAL} together){too_long}; "
            f"{prompts} are needed: ask for fewer prompts or rounds, or give more data"
        )
    order = np.random.default_rng(seed).permutation(len(pool))[:prompts]
    return Drawn([pool[index] for index in order], read, over)


def accepted(turns: Conversation, encode: Callable[[str], Sequence[int]], output_len: int | None) -> Prompt | None:
    """Make a prompt of a conversation; None where the filter leaves it out."""
    if len(turns) < MIN_TURNS:
        return None
    question, answer = turns[0][1], turns[1][1]
    asked, answered = len(encode(question)), len(encode(answer))
    if not (MIN_PROMPT <= asked <= MAX_PROMPT and answered >= MIN_OUTPUT and asked + answered <= MAX_TOTAL):
        return None
    return Prompt(question, asked, output_len or answered)
