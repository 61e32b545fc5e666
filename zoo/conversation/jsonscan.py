"""JSON objects that come piece by piece: where they end, and what a call of a tool has in them."""

from __future__ import annotations

import json
from collections.abc import Iterator

MAX_NAME = 200
"""Characters of a tool's name, past which it is none."""


class ValueScanner:
    """Follows one JSON value, an object or a list, to its end; it is not checked, only balanced."""

    def __init__(self) -> None:
        self.depth = 0
        self.in_string = False
        self._escaped = False

    def add(self, character: str) -> bool:
        """Take a character; tell whether the value ends with it."""
        if self.in_string:
            if self._escaped:
                self._escaped = False
            elif character == "\\":
                self._escaped = True
            elif character == '"':
                self.in_string = False
            return False
        if character == '"':
            self.in_string = True
        elif character in "{[":
            self.depth += 1
        elif character in "}]":
            self.depth -= 1
            return self.depth <= 0
        return False


class CallScanner:
    """Follows an object ``{"name": …, "arguments": …}``, from its first brace to its last.

    Args:
        name: the key of the tool's name.
        arguments: the key of its arguments, an object, or one written out as a string.

    Attributes:
        tool: the name, once it is known.
        ended: the object is complete.
    """

    def __init__(self, name: str, arguments: str) -> None:
        self._keys = (name, arguments)
        self._scan = ValueScanner()
        self._key: str | None = None
        """The key whose value comes now; None between values."""
        self._word = ""
        """The string that comes now, at the object's own level, or the name's value."""
        self._early = ""
        """Arguments that came before the name."""
        self._written = ""
        """Arguments that are a string."""
        self._value_begun = False
        self.tool: str | None = None
        self.ended = False

    def add(self, character: str) -> Iterator[tuple[str, str]]:
        """Take a character; yield ``("call", name)`` once, and ``("arguments", text)`` as they come."""
        scan, (name_key, arguments_key) = self._scan, self._keys
        before, in_string = scan.depth, scan.in_string
        self.ended = scan.add(character)
        if self._key is None:  # before, in or after a key
            if before == 1 and (in_string or character == '"'):
                self._word += character
            elif before == 1 and character == ":":
                self._key, self._word, self._value_begun = _string(self._word), "", False
            elif before == 1 and character == ",":
                self._word = ""
            return
        if before == 1 and not in_string and character in ",}":
            yield from self._value_ends()
            return
        if not self._value_begun and character.isspace():
            return
        self._value_begun = True
        if self._key == name_key and len(self._word) <= MAX_NAME:
            self._word += character
        elif self._key == arguments_key:
            yield from self._argument(character)

    def _argument(self, character: str) -> Iterator[tuple[str, str]]:
        if self._written or (character == '"' and not self._word):
            self._written += character
            return
        self._word = "+"  # begun, and not a string
        if self._scan.depth == 1 and not self._scan.in_string and character.isspace():
            return  # after the value
        if self.tool is None:
            self._early += character
        else:
            yield "arguments", character

    def _value_ends(self) -> Iterator[tuple[str, str]]:
        name_key, arguments_key = self._keys
        if self._key == name_key and self.tool is None:
            self.tool = _string(self._word.strip())
            yield "call", self.tool
            if self._early:
                yield "arguments", self._early
        elif self._key == arguments_key and self._written:
            text, self._written = _string(self._written.strip()), ""
            if self.tool is None:
                self._early = text
            else:
                yield "arguments", text
        self._key, self._word = None, ""


def _string(text: str) -> str:
    """Read a JSON string; what is none stays as it is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text.strip('"')
    return value if isinstance(value, str) else text
