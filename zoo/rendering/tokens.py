"""Tokenize in this process: what the worker of a server's model runs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.tokenizer.bounds import MAX_BYTES
from zoo.tokenizer.library import encode, open_plain


def warm(path: str, split_special: bool) -> bool:
    """Load a tokenizer, and import what renders templates, before the first request comes."""

    _tokenizer(path, split_special)
    return True


def encode_here(path: str, split_special: bool, text: str, special: bool) -> list[int]:
    """Turn text into ids.

    Args:
        path: of the package's ``tokenizer.json``.
        split_special: names of special tokens in a text are text.
        special: add what the tokenizer puts around a text.
    """
    return encode(_tokenizer(path, split_special), text, special=special)


@lru_cache(maxsize=1)
def _tokenizer(path: str, split_special: bool) -> Any:
    file = Path(path)
    if file.stat().st_size > MAX_BYTES:
        raise ZooError(f"{file.parent.name}/{file.name} is too large")
    return open_plain(file.read_bytes(), f"{file.parent.name}/{file.name}", split_special=split_special)
