"""Open a ``tokenizer.json`` with the tokenizers library, whatever it holds."""

from __future__ import annotations

from typing import Any

from zoo.errors import ZooError
from zoo.tokenizer.files import require_text


def load(raw: bytes, where: str) -> Any:
    """Open a tokenizer.

    Raises:
        ZooError: the library cannot read it.
    """
    from tokenizers import Tokenizer

    text = require_text(raw, where)
    try:
        return Tokenizer.from_str(text)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # bare exceptions, and panics, which are not even those
        said = " ".join(str(error).split())[:200]
        raise ZooError(
            f"{where}: the tokenizers library cannot read it: {said}; fetch it again or save it anew"
        ) from None


def highest_id(library: Any) -> int:
    """Return the highest id that a text can become; -1 for an empty vocabulary."""
    return max(library.get_vocab(with_added_tokens=True).values(), default=-1)
