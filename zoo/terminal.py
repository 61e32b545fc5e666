"""Make strangers' text fit to be printed: a title or a file name cannot move the cursor or forge a line."""

from __future__ import annotations

import logging
import re
import shlex

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_BREAKS = re.compile(r"\s*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]\s*")


def printable(text: str) -> str:
    """Write control characters, text direction marks and lone surrogates as ``\\uXXXX``; line breaks and tabs stay.

    The result of printable JSON is the same JSON.
    """
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def one_line(text: str) -> str:
    """Write a text on one line, fit to be printed."""
    return printable(_BREAKS.sub(" ", text.strip()))


def command_line(*words: object) -> str:
    """Write a command as one would type it in a shell, each word quoted where it needs to be."""
    return shlex.join(map(str, words))


class PrintableFormatter(logging.Formatter):
    """Write a log record on one line, fit to be printed."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))
