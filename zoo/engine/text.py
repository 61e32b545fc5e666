"""Text to token ids and back: the package's own tokenizer, and the pieces of an answer as they complete."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.errors import ZooError


class Tokenizer:
    """The package's tokenizer (``tokenizer.json``, run by the ``tokenizers`` library)."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as Library

        path = folder / "tokenizer.json"
        try:
            self._library: Any = Library.from_file(str(path))
        except Exception as error:
            raise ZooError(f"{folder.name}/tokenizer.json: {' '.join(str(error).split())[:200]}") from None

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Turn text into ids; ``special`` adds what the tokenizer puts around a text, such as bos."""
        return list(self._library.encode(text, add_special_tokens=special).ids)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Turn ids into text."""
        return str(self._library.decode(list(ids), skip_special_tokens=skip_special))

    def token(self, token_id: int | None) -> str | None:
        """Name a token."""
        return None if token_id is None else self._library.id_to_token(token_id)

    def stream(self, prompt: Sequence[int]) -> TokenStream:
        """Start to decode what follows a prompt."""
        return TokenStream(self._library, prompt)


class TokenStream:
    """Decodes token by token: a piece comes out when it can change no more."""

    def __init__(self, library: Any, prompt: Sequence[int]) -> None:
        from tokenizers.decoders import DecodeStream

        self._library = library
        # The prompt's end decides whether the first piece keeps its leading space.
        self._stream = DecodeStream(ids=list(prompt[-8:]), skip_special_tokens=True)
        self._pending: list[int] = []

    def add(self, token_id: int) -> str:
        """Take a token; return the text that it completes, possibly none."""
        try:
            piece = self._stream.step(self._library, token_id)
        except Exception:
            piece = None
        if piece is None:
            self._pending.append(token_id)
            return ""
        self._pending.clear()
        return str(piece)

    def rest(self) -> str:
        """Return what was held back because a character is incomplete."""
        if not self._pending:
            return ""
        text = str(self._library.decode(self._pending, skip_special_tokens=True))
        self._pending.clear()
        return text


class StopStrings:
    """Finds the first stop string in a stream, and holds back what might become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.found = False

    def add(self, piece: str) -> str:
        """Take a piece; return what is certain to be no part of a stop string."""
        if not self._stops or self.found:
            return "" if self.found else piece
        text = self._held + piece
        places = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)]
        longest = max(len(stop) for stop in self._stops) - 1
        keep = 0
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                keep = size
                break
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """Return what was held back after all."""
        held, self._held = self._held, ""
        return "" if self.found else held
