"""One complete ``tokenizer.json`` from whatever files a checkpoint brings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from zoo.tokenizer import vocabulary
from zoo.tokenizer.added import complete
from zoo.tokenizer.files import Companion, TokenizerFiles
from zoo.tokenizer.library import highest_id, load

TOKENIZER, SENTENCEPIECE = "tokenizer.json", "tokenizer.model"


@dataclass(frozen=True)
class ResolvedTokenizer:
    """A tokenizer that encodes and decodes as transformers' does over the same files.

    Attributes:
        raw: ``tokenizer.json``, byte for byte the checkpoint's where that is complete.
        tokens: the texts of its added tokens, by id.
        special: which of them are special.
        highest_id: the highest id that a text can become.
        moved: tokens whose id is another than a file states, text → (stated, given).
        of_class: special tokens that no file names, but the class that ``tokenizer_config.json`` names brings.
    """

    raw: bytes
    tokens: dict[int, str]
    special: frozenset[int]
    highest_id: int
    moved: dict[str, tuple[int, int]]
    of_class: dict[str, str]
    _library: Any

    def id_of(self, token: str) -> int | None:
        """Return a token's id; None for a text that is not a token."""
        index: int | None = self._library.token_to_id(token)
        return index

    def text_of(self, token_id: int | None) -> str | None:
        """Return a token's text; None for an id that has none."""
        return None if token_id is None else self._library.id_to_token(token_id)


def resolve_tokenizer(companion: Companion, files: TokenizerFiles) -> ResolvedTokenizer | None:
    """Read a checkpoint's tokenizer, converted and completed; None where it has none.

    ``tokenizer.json`` counts before ``tokenizer.model``, and both before ``vocab.json`` with ``merges.txt``.

    Raises:
        ZooError: a file cannot be read.
    """
    raw, where = companion(TOKENIZER), f"{files.where}/{TOKENIZER}"
    if raw is None and (model := companion(SENTENCEPIECE)) is not None:
        from zoo.sources.sentencepiece import convert

        where = f"{files.where}/{SENTENCEPIECE}"
        raw = convert(model, files.settings, files.added, where)
    resolved = None if raw is None else _resolve(raw, _Hashed(files), where)
    if raw is None and (converted := vocabulary.convert(companion, files)) is not None:
        raw, names = converted
        of_class = {name: token for name, token in names.items() if name not in files.merged}
        resolved = replace(_resolve(raw, _Hashed(files), where), of_class=of_class)
    return resolved


def forget_tokenizers() -> None:
    """Let go of what is remembered of tokenizers: the library keeps some 50 MB of one with 32,000 tokens."""
    _resolve.cache_clear()


class _Hashed:
    """Files as a key of the cache: what resolving and building ask twice is read once."""

    def __init__(self, files: TokenizerFiles) -> None:
        self.files = files
        self._key = repr((files.where, files.settings, files.named, files.added))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashed) and self._key == other._key


@lru_cache(maxsize=2)
def _resolve(raw: bytes, hashed: _Hashed, where: str) -> ResolvedTokenizer:
    library = load(raw, where)
    before = library.get_added_tokens_decoder()
    moved = complete(library, hashed.files)
    added = library.get_added_tokens_decoder()
    if added != before:
        raw = library.to_str().encode()
    return ResolvedTokenizer(
        raw=raw,
        tokens={index: token.content for index, token in added.items()},
        special=frozenset(index for index, token in added.items() if token.special),
        highest_id=highest_id(library),
        moved=moved,
        of_class={},
        _library=library,
    )
