"""Open a ``tokenizer.json`` with the tokenizers library, whatever it holds."""

from __future__ import annotations

from typing import Any

from zoo.errors import ZooError
from zoo.tokenizer.bounds import check
from zoo.tokenizer.files import require_text


def load(raw: bytes, where: str) -> Any:
    """Open a tokenizer.

    Raises:
        ZooError: the library cannot read it, or it does too much to a text.
    """
    from tokenizers import Tokenizer

    text = require_text(raw, where)
    check(raw, where)
    try:
        return Tokenizer.from_str(text)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # bare exceptions, and panics, which are not even those
        said = " ".join(str(error).split())[:200]
        raise ZooError(
            f"{where}: the tokenizers library cannot read it: {said}; fetch it again or save it again"
        ) from None


def open_plain(raw: bytes, where: str, *, split_special: bool) -> Any:
    """Open a tokenizer that cuts and fills up no text.

    Args:
        split_special: names of special tokens in a text are text.
    """
    library = load(raw, where)
    library.encode_special_tokens = split_special
    # What a training script left switched on would cut prompts short.
    library.no_truncation()
    library.no_padding()
    return library


def encode(library: Any, text: str, *, special: bool) -> list[int]:
    """Turn text into ids.

    Raises:
        ZooError: the library gives up, as a regular expression may that tries too much.
    """
    try:
        return list(library.encode(text, add_special_tokens=special).ids)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a panic is not even an Exception
        said = " ".join(str(error).split())[:200]
        raise ZooError(f"the tokenizer cannot take this text: {said or type(error).__name__}") from None


def highest_id(library: Any) -> int:
    """Return the highest id that a text can become; -1 for an empty vocabulary."""
    return max(library.get_vocab(with_added_tokens=True).values(), default=-1)
