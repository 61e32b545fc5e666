"""A model's vocabulary as llguidance sees it, and answers that follow a grammar over it."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Collection
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.contracts.constraint import ConstraintError
from zoo.errors import UsageError, ZooError
from zoo.structured.structure import Structure, grammar_text

LIMITS: dict[str, Any] = {"initial_lexer_fuel": 500_000, "step_lexer_fuel": 100_000, "max_lexer_states": 100_000}
"""Work that a grammar may ask for at its start and before a token; an expression that explodes meets these."""


class Guide:
    """Makes constraints over one vocabulary.

    Args:
        tokenizer: the model's, as ``tokenizer.json`` has it.
        vocab_size: how many logits the model has, at least as many as the tokenizer has tokens.
        ends: the tokens that end an answer.

    Raises:
        ZooError: llguidance is not installed, or cannot read the tokenizer.
    """

    def __init__(self, tokenizer: str, vocab_size: int, ends: Collection[int]) -> None:
        if importlib.util.find_spec("llguidance") is None:
            raise ZooError(
                "structured output needs llguidance, which is not installed; "
                "install it with: pip install 'model-zoo-framework[structured]'"
            )
        from llguidance import LLParserLimits, LLTokenizer

        self._vocab_size = vocab_size
        added = json.loads(tokenizer).get("added_tokens") or []
        self._added = {str(token["content"]): int(token["id"]) for token in added if token["id"] < vocab_size}
        self._ends = sorted(end for end in ends if end < vocab_size)
        self._limits: Any = LLParserLimits(**LIMITS)
        try:
            self._library: Any = LLTokenizer(tokenizer, n_vocab=vocab_size, eos_token=self._ends or None)
        except Exception as error:  # it raises bare exceptions
            raise ZooError(f"structured output cannot use this tokenizer: {_first_line(error)}") from None

    @cached_property
    def special(self) -> dict[str, int]:
        """Added tokens that stand for no text in a grammar, special or not to the tokenizer: text → id.

        A grammar names them by id; written out as text, they would be spelled by other tokens.
        """
        library = self._library
        return {text: token for text, token in self._added.items() if library.is_special_token(token)}

    def follow(self, structure: Structure) -> Following:
        """Make the constraint of an answer of some form.

        Raises:
            UsageError: the form cannot be followed; the message says what of it.
        """
        return self.compile(grammar_text({"answer": structure.part()}), structure.kind)

    def compile(self, grammar: str, kind: str = "grammar") -> Following:
        """Make the constraint of llguidance's own grammar text.

        Args:
            kind: what the user gave, for the error.

        Raises:
            UsageError: the grammar is wrong, or nothing fits it.
        """
        from llguidance import LLMatcher

        matcher = LLMatcher(self._library, grammar, limits=self._limits, log_level=0)
        if matcher.is_error():
            raise UsageError(f"the {kind} cannot be followed: {_reason(matcher.get_error())}")
        following = Following(matcher, self._vocab_size, self._ends)
        try:
            following.copy().allowed()
        except ConstraintError as error:
            raise UsageError(f"the {kind} cannot be followed: {error}") from None
        return following


class Following:
    """An answer that follows a grammar."""

    def __init__(self, matcher: Any, vocab_size: int, ends: list[int]) -> None:
        self._matcher, self._vocab_size, self._ends = matcher, vocab_size, ends

    def copy(self) -> Following:
        """Begin the same answer anew, for another choice; only before anything was accepted."""
        return Following(self._matcher.deep_copy(), self._vocab_size, self._ends)

    @property
    def complete(self) -> bool:
        """Whether nothing may follow."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> NDArray[np.bool_]:
        """Say which tokens may come next, bool (vocab,); those that end an answer where it may end.

        Raises:
            ConstraintError: none may, or the grammar has become too hard to follow.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise ConstraintError(_reason(self._matcher.get_error()))
        mask = np.unpackbits(bits, count=self._vocab_size, bitorder="little").view(np.bool_)
        mask[self._ends] = self._matcher.is_accepting()
        if not mask.any():
            raise ConstraintError("no token of the vocabulary can come next")
        return mask

    def accept(self, token: int) -> None:
        """Take the token that was chosen.

        Raises:
            ConstraintError: it was not allowed, or the grammar has become too hard to follow.
        """
        if not self._matcher.consume_token(token):
            raise ConstraintError(_reason(self._matcher.get_error()))


def _first_line(error: object) -> str:
    return " ".join(str(error).split("\n", 1)[0].split())[:300] or "it gives no reason"


def _reason(message: str) -> str:
    """Take the reason out of llguidance's message, which goes on with its state and points into the text."""
    message = message.partition("<state>")[0]
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if not lines:
        return "it gives no reason"
    told = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), None)
    where = next((match[1] for line in lines if (match := _PATTERN.search(line))), None)
    first = _PLACE.sub("", lines[0])
    reason = first if told is None else f"the expression '{where or (lines[1] if len(lines) > 1 else '')}': {told}"
    if keys := _KEYS.match(reason):
        names = keys[1].replace('"', "'")
        return f"the keywords {names} are not supported" if "," in names else f"the keyword {names} is not supported"
    for begins, better in _BETTER.items():
        if reason.startswith(begins):
            return better
    return reason[:300]


_BETTER = {
    "NoExtension": "nothing fits it",
    "oneOf constraints": "'oneOf' of schemas that may fit at once is not supported; say 'anyOf'",
    "schema is false": "nothing fits the schema false",
}
"""How a reason of llguidance's begins → what it means to who wrote the schema."""
_PLACE = re.compile(r"^(at )?\d+\(\d+\):\s*")
_PATTERN = re.compile(r'invalid regex "(.*)" \(in regex\)')
_KEYS = re.compile(r"Unimplemented keys: \[(.*)\]$")
