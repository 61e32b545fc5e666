"""Strict JSON for files that others wrote: no duplicate keys, bounded size, one-line errors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.sources.pointers import refuse_pointer

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""What an escaped surrogate looks like; a pair of them is a character, one alone is not."""


class _Duplicate(ValueError):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Duplicate(f"the name {key[:80]!r} appears twice")
            seen.add(key)
    return result


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def parse_object(raw: bytes, where: str, *, duplicates: bool = False) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        raw: UTF-8 text.
        where: what it is, for the message.
        duplicates: let a key stand twice (the last one counts), as lenient writers of tokenizers do.

    Raises:
        ZooError: it is not UTF-8, not JSON, not an object, nested too deep, or holds a key twice or half a character.
    """
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=None if duplicates else _pairs,
            parse_constant=None if duplicates else _constant,
        )
    except UnicodeDecodeError as error:
        raise ZooError(f"{where}: not UTF-8 at byte {error.start}") from None
    except _Duplicate as error:
        raise ZooError(f"{where}: {error}") from None
    except RecursionError:
        raise ZooError(f"{where}: nested too deep") from None
    except ValueError as error:
        raise ZooError(f"{where}: not JSON: {str(error).splitlines()[0][:200]}") from None
    if _HALF.search(raw) and not _is_text(value):
        raise ZooError(f"{where}: holds an escaped half of a character (\\ud800 to \\udfff), which is not text")
    if not isinstance(value, dict):
        raise ZooError(f"{where}: holds a JSON {type(value).__name__}, not an object")
    return value


def _is_text(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_bytes(path: Path, limit: int, where: str | None = None) -> bytes:
    """Read a whole file of at most ``limit`` bytes.

    Raises:
        ZooError: it is missing, no regular file, unreadable or larger.
    """
    where = where or str(path)
    try:
        if not path.is_file():
            raise ZooError(f"{where}: no such file" if not path.exists() else f"{where}: not a regular file")
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise ZooError(f"{where}: {error.strerror or error}") from None
    refuse_pointer(raw, where)
    if len(raw) > limit:
        raise ZooError(f"{where}: larger than {limit} bytes, too large for such a file")
    return raw


def read_object(path: Path, limit: int, where: str | None = None) -> dict[str, Any]:
    """Read a file that holds one JSON object."""
    return parse_object(read_bytes(path, limit, where), where or str(path))
