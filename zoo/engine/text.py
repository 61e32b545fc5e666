"""Text to token ids and back: the package's own tokenizer, and the pieces of an answer as they complete."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from zoo.engine.vocabulary import Kind, kind_of, token_bytes
from zoo.errors import UsageError

_BYTE = re.compile(r"^<0x([0-9A-F]{2})>\Z")
WINDOW = 8
"""Tokens before a new one that decide how it reads (a leading space, the bytes before it)."""
LONG_RUN = 32
"""Byte tokens in a row after which their text is handed out although the run goes on."""


def check_text(text: str) -> None:
    """Refuse what cannot be written as UTF-8.

    Raises:
        UsageError: it holds half of a surrogate pair.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"the prompt is not valid text: character {error.start} is half of a pair") from None


class Tokenizer:
    """The package's tokenizer (``tokenizer.json``, run by the ``tokenizers`` library)."""

    def __init__(self, folder: Path) -> None:
        from zoo.package.closed import files_of
        from zoo.sources.companions import MAX_COMPANION
        from zoo.tokenizer.files import read_files
        from zoo.tokenizer.library import open_plain

        companion, self.path = files_of(folder, MAX_COMPANION), folder / "tokenizer.json"
        self.split_special = read_files(companion, folder.name).settings.get("split_special_tokens") is True
        where = f"{folder.name}/{self.path.name}"
        self._library: Any = open_plain(companion(self.path.name) or b"", where, split_special=self.split_special)
        added = self._library.get_added_tokens_decoder()
        self.special_ids = frozenset(index for index, token in added.items() if token.special)
        self._bytes: dict[int, int] = {}
        for token, index in self._library.get_vocab(with_added_tokens=False).items():
            if match := _BYTE.match(token):
                self._bytes[index] = int(match[1], 16)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Turn text into ids; ``special`` adds what the tokenizer puts around a text, such as bos."""
        from zoo.tokenizer.library import encode

        check_text(text)
        return encode(self._library, text, special=special)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Turn ids into text."""
        return str(self._library.decode(list(ids), skip_special_tokens=skip_special))

    @property
    def vocab_size(self) -> int:
        """How many ids have a token, added ones included."""
        return int(self._library.get_vocab_size())

    def has_tokens_of(self, other: Tokenizer) -> bool:
        """Tell whether both give every token the same id."""
        return bool(self._library.get_vocab() == other._library.get_vocab())

    def to_json(self) -> str:
        """Write the tokenizer as ``tokenizer.json`` has it."""
        return str(self._library.to_str())

    @cached_property
    def _kind(self) -> Kind:
        return kind_of(self._library)

    def bytes_of(self, token_id: int) -> bytes | None:
        """Say which bytes a token stands for, half a character's possibly; None where the vocabulary does not tell."""
        name = self.token(token_id)
        return None if name is None else token_bytes(name, self._kind)

    def token(self, token_id: int | None) -> str | None:
        """Name a token."""
        return None if token_id is None else self._library.id_to_token(token_id)

    def id_of(self, token: str) -> int | None:
        """Find a token's id; None for what is not a token."""
        index: int | None = self._library.token_to_id(token)
        return index

    def ids_of_stops(self, stops: Sequence[str]) -> frozenset[int]:
        """Find the special tokens among stop strings: they end an answer as ids, since no text shows them."""
        ids = (self._library.token_to_id(stop) for stop in stops)
        return frozenset(index for index in ids if index in self.special_ids)

    @property
    def highest_id(self) -> int:
        """The highest id that a text can become."""
        return max(self._library.get_vocab(with_added_tokens=True).values(), default=-1)

    @property
    def longest_name(self) -> int:
        """Characters of the longest token's name, at least one: no token stands for more of a text."""
        return max(map(len, self._library.get_vocab(with_added_tokens=True)), default=1)

    def stream(self, prompt: Sequence[int] = (), visible: frozenset[int] = frozenset()) -> TokenStream:
        """Start to decode what follows a prompt; ``visible`` are special tokens whose names are part of the text."""
        return TokenStream(self, prompt, visible)


class TokenStream:
    """Decodes token by token: a piece comes out when it can change no more.

    Together the pieces are what decoding prompt and answer at once gives after the prompt's text. Two things make text
    change when tokens follow: a character whose bytes are not all there, and, where the tokenizer falls back to byte
    tokens, a run of them, which becomes text only if all of it is UTF-8. Such a run is held until it ends, or is longer
    than ``LONG_RUN`` and whole.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int] = (), visible: frozenset[int] = frozenset()) -> None:
        self._tokenizer = tokenizer
        self._visible = visible & tokenizer.special_ids
        self._bytes = tokenizer._bytes
        self._run = bytearray()
        self._broken = False
        """The run of byte tokens is not UTF-8, whatever follows."""
        self._held = 0
        """Bytes of the run that are not handed out."""
        start = max(0, len(prompt) - 4 * WINDOW)
        while start > 0 and prompt[start] in self._bytes and prompt[start - 1] in self._bytes:
            start -= 1  # part of a run of bytes does not read as the run does
        window = [token for token in prompt[start:] if token not in tokenizer.special_ids]
        for token in window:
            self._count_run(token)
        self._ids = window
        text = tokenizer.decode(window)
        # The prompt's last character may wait for its other bytes.
        self._sent = len(text.rstrip("\ufffd"))
        """Characters of the window's text that are handed out."""

    def add(self, token: int) -> str:
        """Take a token; return the text that it completes, possibly none."""
        tokenizer = self._tokenizer
        if token in self._visible:
            return self._show(token)
        if token in tokenizer.special_ids or tokenizer.token(token) is None:
            return ""
        self._count_run(token)
        if token in self._bytes:
            self._held += 1
            if self._broken:
                return self._give_up_run()
            self._ids.append(token)
            if len(self._run) < LONG_RUN or _judge(self._run) != "whole":
                return ""
            return self._cut_run()
        self._held = 0
        self._ids.append(token)
        text = tokenizer.decode(self._ids)
        end = len(text)
        if text.endswith("\ufffd"):
            end -= 1  # the beginning of a character whose other bytes are still to come
        piece, self._sent = text[self._sent : end], max(end, self._sent)
        if end == len(text) and len(self._ids) > 2 * WINDOW:
            self._shorten(WINDOW)
        return piece

    def _show(self, token: int) -> str:
        """Write a special token's name after all that was held back; what follows reads as after any other token."""
        piece = self.rest() + (self._tokenizer.token(token) or "")
        self._run.clear()
        self._broken, self._held = False, 0
        self._shorten(WINDOW)
        return piece

    def rest(self) -> str:
        """Return what was held back, incomplete as it is."""
        text = self._tokenizer.decode(self._ids)
        piece, self._sent = text[self._sent :], len(text)
        return piece

    def _count_run(self, token: int) -> None:
        """Follow the run of byte tokens that a token belongs to, or ends."""
        if token in self._bytes:
            self._run.append(self._bytes[token])
            self._broken = self._broken or _judge(self._run) == "broken"
        elif self._run:
            self._run.clear()
            self._broken = False

    def _give_up_run(self) -> str:
        """Hand out a broken run: each of its bytes is a replacement character."""
        piece = "\ufffd" * self._held
        waiting = self._held - 1  # the last was not appended to the window
        if waiting:
            del self._ids[-waiting:]
        self._held = 0
        return piece

    def _cut_run(self) -> str:
        """Hand out a long run that is whole so far, and begin it anew with its last character."""
        text = self._tokenizer.decode(self._ids)
        piece = text[self._sent :]
        last = len(self._run.decode("utf-8")[-1].encode("utf-8"))
        del self._run[:-last]
        self._held = 0
        self._shorten(last)
        return piece

    def _shorten(self, tokens: int) -> None:
        """Keep the last tokens of a window that is handed out."""
        self._ids = self._ids[-tokens:]
        self._sent = len(self._tokenizer.decode(self._ids))


def _judge(run: bytes | bytearray) -> str:
    """Tell whether bytes are UTF-8: "whole", "open" where more bytes may complete them, or "broken"."""
    try:
        run.decode("utf-8")
    except UnicodeDecodeError as error:
        return "open" if error.reason == "unexpected end of data" else "broken"
    return "whole"


class StopStrings:
    """Finds the first stop string in a stream, and holds back what might become one."""

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        if "" in stops:
            raise UsageError("a stop string must not be empty")
        self._include = include
        """The one that ends the text is part of it."""
        self._stops = tuple(stops)
        self._held = ""
        self.found = False

    def add(self, piece: str) -> str:
        """Take a piece; return what is certain to be no part of a stop string."""
        if not self._stops or self.found:
            return "" if self.found else piece
        text = self._held + piece
        places = [(at, len(stop)) for at, stop in ((text.find(stop), stop) for stop in self._stops) if at >= 0]
        if places:
            self.found, self._held = True, ""
            at, length = min(places)
            return text[: at + length] if self._include else text[:at]
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
