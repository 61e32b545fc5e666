"""Tokenize in this process: what the worker of a server's model runs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.tokenizer.bounds import MAX_BYTES
from zoo.tokenizer.library import encode, open_plain


def warm() -> bool:
    """Import what rendering and tokenizing need, before a model comes."""
    import tokenizers

    import zoo.rendering.template

    return bool(zoo.rendering.template and tokenizers)


def load(path: str) -> bool:
    """Load a tokenizer before the first request comes."""
    return _tokenizer(path) is not None


def encode_here(path: str, split_special: bool, text: str, special: bool) -> list[int]:
    """Turn text into ids.

    Args:
        path: of the package's ``tokenizer.json``.
        split_special: names of special tokens in a text are text.
        special: add what the tokenizer puts around a text.
    """
    library = _tokenizer(path)
    library.encode_special_tokens = split_special
    return encode(library, text, special=special)


@lru_cache(maxsize=1)
def _tokenizer(path: str) -> Any:
    file = Path(path)
    if file.stat().st_size > MAX_BYTES:
        raise ZooError(f"{file.parent.name}/{file.name} is too large")
    return open_plain(file.read_bytes(), f"{file.parent.name}/{file.name}", split_special=False)
