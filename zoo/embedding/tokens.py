"""Texts, and pairs of texts, to token ids: cut to what the model takes where that is asked for, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zoo.engine.text import check_text
from zoo.errors import UsageError, ZooError
from zoo.package.folder import Package
from zoo.tokenizer.library import open_plain


@dataclass(frozen=True, slots=True)
class TextTokens:
    """The ids of a text, or of a pair."""

    ids: Sequence[int]
    types: Sequence[int]
    """Which of the two texts each token is of: 0 or 1."""
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.ids)


class TextEncoder:
    """A package's tokenizer for whole texts.

    Args:
        package: it has a ``tokenizer.json``.
        longest: tokens of a text, or of a pair, at most; special tokens included.
        vocab_size: ids are below this.
        lowercase: texts are lowered first.

    Raises:
        ZooError: the tokenizer cannot be read.
    """

    def __init__(self, package: Package, longest: int, vocab_size: int, *, lowercase: bool = False) -> None:
        raw, self.name, self.longest = package.read("tokenizer.json"), package.name, longest
        if raw is None:
            raise ZooError(f"{package.name} has no tokenizer, so it takes no text; build it from a checkpoint with one")
        self._library: Any = open_plain(raw, f"{package.name}/tokenizer.json", split_special=False)
        self._vocab_size, self._lowercase = vocab_size, lowercase
        self._around = self._library.num_special_tokens_to_add(False), self._library.num_special_tokens_to_add(True)

    def texts(self, texts: Sequence[str], *, truncate: bool, before: str = "") -> list[TextTokens]:
        """Encode texts.

        Args:
            truncate: cut those that are too long.
            before: a prompt that is put before each.

        Raises:
            UsageError: a text is empty, or not text.
            ZooError: a text is too long and is not to be cut.
        """
        for index, text in enumerate(texts):
            self._check(text, f"text {index}")
        plain = self._plain([before + text for text in texts])
        room = self.longest - self._around[0]
        return [self._closed(one, None, room, truncate, f"text {index}") for index, one in enumerate(plain)]

    def pairs(self, first: str, seconds: Sequence[str], *, truncate: bool) -> list[TextTokens]:
        """Encode one text beside each of several, as the model was trained to see pairs; only the second is cut.

        Raises:
            UsageError: a text is empty, or not text.
            ZooError: a pair is too long and is not to be cut, or the first text leaves no room for another.
        """
        self._check(first, "the query")
        for index, text in enumerate(seconds):
            self._check(text, f"document {index}")
        query, *documents = self._plain([first, *seconds])
        room = self.longest - self._around[1] - len(query.ids)
        if room < 1:
            raise ZooError(
                f"the query has {len(query.ids)} tokens; {self.name} takes {self.longest} of query and document"
            )
        return [self._closed(one, query, room, truncate, f"document {index}") for index, one in enumerate(documents)]

    def _check(self, text: str, what: str) -> None:
        if not isinstance(text, str):
            raise UsageError(f"{what} is not a text, but {type(text).__name__}")
        if not text:
            raise UsageError(f"{what} is empty")
        check_text(text)

    def _plain(self, texts: list[str]) -> list[Any]:
        """Encode without the tokens that stand around a text."""
        if self._lowercase:
            texts = [text.lower() for text in texts]
        try:
            return list(self._library.encode_batch_fast(texts, add_special_tokens=False))
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # a panic is not even an Exception
            said = " ".join(str(error).split())[:200]
            raise ZooError(f"the tokenizer cannot take a text: {said or type(error).__name__}") from None

    def _closed(self, encoding: Any, query: Any, room: int, truncate: bool, what: str) -> TextTokens:
        """Cut an encoding to its room and put the special tokens around it."""
        count = len(encoding.ids)
        if count > room:
            if not truncate:
                taken = f"{self.name} takes {room}" + ("" if query is None else " beside this query")
                raise ZooError(f"{what} has {count} tokens; {taken}; cut it, or let it be cut (truncate)")
            encoding.truncate(room)
        pair = (encoding, None) if query is None else (query, encoding)
        whole = self._library.post_process(*pair, add_special_tokens=True)
        ids = whole.ids
        if not ids:
            raise UsageError(f"{what} has no tokens")
        if max(ids) >= self._vocab_size:
            raise UsageError(f"{what} has token {max(ids)}, which is not in the vocabulary of {self._vocab_size}")
        return TextTokens(ids, whole.type_ids, count > room)
