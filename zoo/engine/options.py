"""The keywords of a call for an answer, which become ``Limits`` and ``Sampling``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypedDict

from zoo.engine.generation import Limits
from zoo.engine.sampling import Sampling
from zoo.errors import UsageError
from zoo.structured.structure import Kind, Structure


class AnswerOptions(TypedDict, total=False):
    """How an answer is asked for: the fields of ``Limits`` and ``Sampling``, and how it is computed."""

    max_new_tokens: int
    """Tokens of the answer at most; 256 unless stated."""
    stop: Sequence[str]
    """Strings that end the answer and are not part of it."""
    stop_token_ids: Sequence[int]
    """Further tokens that end it."""
    include_stop: bool
    """What ended the answer is part of its text."""
    ignore_eos: bool
    """Go on past the model's own end of text."""
    temperature: float
    """0, the default, is greedy."""
    top_k: int
    """Sample among so many of the likeliest tokens; 0 is all."""
    top_p: float
    """Sample among the likeliest tokens that have this probability together; 1 is all."""
    repetition_penalty: float
    """Above 1 makes tokens that came already less likely."""
    min_p: float
    """Drop tokens that are less likely than this share of the likeliest one; 0 keeps all."""
    presence_penalty: float
    """Taken off the logit of every token that the answer has."""
    frequency_penalty: float
    """Taken off once for each time that the answer has it."""
    logit_bias: Mapping[int, float] | Sequence[tuple[int, float]]
    """Token id → what is added to its logit."""
    seed: int | None
    """Makes sampling repeatable."""
    schema: Mapping[str, Any] | bool | None
    """A JSON schema: the answer is JSON that fits it. One cut by ``max_new_tokens`` finishes as ``length``."""
    regex: str | None
    """A regular expression that the whole answer matches."""
    grammar: str | None
    """A grammar that the answer follows, Lark or GBNF."""
    lookup: bool
    """Guess tokens from the text so far and judge several at once (prompt lookup): faster where an answer repeats its
    prompt. A greedy answer stays what it is."""


FORMS: tuple[Kind, ...] = ("schema", "regex", "grammar")
SAMPLING = frozenset(field.name for field in fields(Sampling))
LIMITS = frozenset(field.name for field in fields(Limits))


def read_options(options: Mapping[str, Any], ends: frozenset[int]) -> tuple[Limits, Sampling]:
    """Sort the keywords of a call.

    Args:
        options: see ``AnswerOptions``.
        ends: the model's own end-of-text tokens.

    Raises:
        TypeError: a keyword that is not among them.
        UsageError: a value out of range.
    """
    if unknown := [name for name in options if name not in AnswerOptions.__annotations__]:
        raise TypeError(f"unexpected argument {unknown[0]!r}; there are {', '.join(AnswerOptions.__annotations__)}")
    given = {name: value for name, value in options.items() if name in LIMITS}
    if (most := given.get("max_new_tokens", 1)) < 1:
        raise UsageError(f"max-new-tokens must be 1 or more, not {most}")
    given["stop"] = tuple(given.get("stop", ()))
    given["stop_token_ids"] = frozenset(given.get("stop_token_ids", ()))
    if not options.get("ignore_eos", False):
        given["stop_token_ids"] |= ends
    chosen = {name: value for name, value in options.items() if name in SAMPLING}
    if "logit_bias" in chosen:
        chosen["logit_bias"] = tuple(dict(chosen["logit_bias"]).items())
    return Limits(**given), Sampling(**chosen)


def read_form(options: Mapping[str, Any]) -> Structure | None:
    """Say which form the answer is to have.

    Raises:
        UsageError: several.
    """
    asked = [kind for kind in FORMS if options.get(kind) is not None]
    if len(asked) > 1:
        raise UsageError(f"an answer has one form: give either {' or '.join(asked)}")
    return Structure(asked[0], options[asked[0]]) if asked else None
