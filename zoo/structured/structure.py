"""What form an answer is to have, and the grammar that llguidance follows for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zoo.errors import UsageError
from zoo.structured.schema import prepare_schema

MAX_SOURCE = 2**18
"""Characters of a grammar or an expression, and of a schema written as JSON."""
MAX_CHOICES = 1000
Kind = Literal["schema", "regex", "grammar", "choice"]
Part = dict[str, Any]
"""One grammar among those that llguidance takes together."""


@dataclass(frozen=True)
class Structure:
    """The form of an answer.

    Attributes:
        kind: what ``source`` is: a JSON schema, a regular expression, a grammar (Lark or GBNF), or texts to choose
            from.
    """

    kind: Kind
    source: Any

    @classmethod
    def any_object(cls) -> Structure:
        """Any JSON object."""
        return cls("schema", {"type": "object"})

    def part(self) -> Part:
        """Write it as llguidance takes it.

        Raises:
            UsageError: it cannot be followed; the message says what of it.
        """
        if self.kind == "schema":
            return {"json_schema": prepare_schema(self.source)}
        if self.kind == "choice":
            return {"lark_grammar": _choice_grammar(self.source)}
        if not isinstance(self.source, str) or not self.source:
            raise UsageError(f"a {self.kind} is a text that is not empty")
        if len(self.source) > MAX_SOURCE:
            raise UsageError(f"the {self.kind} has {len(self.source)} characters; it may have {MAX_SOURCE}")
        if self.kind == "regex":
            return {"lark_grammar": f"start: /{_escape_slashes(self.source)}/"}
        return {"lark_grammar": _as_lark(self.source)}


def grammar_text(parts: Mapping[str, Part], start: str | None = None) -> str:
    """Put grammars together.

    Args:
        parts: grammars by name.
        start: a Lark grammar whose rules name the others as ``@name``; by default the only part is all there is.
    """
    named = [{"name": name, **part} for name, part in parts.items()]
    whole: Sequence[Part] = named if start is None else [{"name": "whole", "lark_grammar": start}, *named]
    return json.dumps({"grammars": list(whole)})


def _choice_grammar(choices: Any) -> str:
    good = isinstance(choices, Sequence) and not isinstance(choices, str) and 0 < len(choices) <= MAX_CHOICES
    if not good or not all(isinstance(text, str) and text for text in choices):
        raise UsageError(f"choices are a list of 1 to {MAX_CHOICES} texts, none of them empty")
    return "start: " + " | ".join(quote(text) for text in choices)


def quote(text: str) -> str:
    """Write a text as a literal of a Lark grammar."""
    return json.dumps(text, ensure_ascii=False)


def _escape_slashes(pattern: str) -> str:
    """Write an expression between slashes: those of its own are escaped, and line ends cannot stand there."""
    made, escaped = [], False
    for character in pattern:
        if escaped or character != "/":
            made.append({"\n": "n" if escaped else "\\n", "\r": "r" if escaped else "\\r"}.get(character, character))
        else:
            made.append("\\/")
        escaped = character == "\\" and not escaped
    return "".join(made)


def _as_lark(grammar: str) -> str:
    """Write a grammar as Lark, from GBNF where it is that."""
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        return str(any_to_lark(grammar))
    except RecursionError:
        raise UsageError("the grammar is nested too deeply") from None
    except Exception as error:  # its own error has no public base
        raise UsageError(f"the grammar is neither Lark nor GBNF: {' '.join(str(error).split())[:200]}") from None
