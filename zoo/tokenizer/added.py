"""Complete a ``tokenizer.json`` by the tokens that only the files beside it name.

Which tokens, in which order and with which flags: transformers, ``PreTrainedTokenizerBase._from_pretrained`` and
``TokenizersBackend.__init__``. The ids are given by the tokenizers library, as there: the id of the vocabulary where it
has the text, else the next free one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.errors import ZooError
from zoo.tokenizer.files import ADDED, NAMED, SETTINGS, TokenizerFiles, token_text

_FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")


def complete(library: Any, files: TokenizerFiles) -> dict[str, tuple[int, int]]:
    """Add the missing tokens to an opened tokenizer, in place.

    Returns:
        Tokens whose id is another than a file states: text → (stated, given).

    Raises:
        ZooError: a file names a token that is none.
    """
    stated = _stated(library, files)
    present = library.get_added_tokens_decoder()
    missing = [token for _, token in sorted(stated.items()) if all(token != other for other in present.values())]
    texts = {token.content for token in present.values()} | {token.content for token in missing}
    by_text = {token.content: token for token in stated.values()}
    named = [by_text.get(text) or token for text, token in _named(files)]
    for token in (*named, *_extra(files)):
        if token.content not in texts:
            missing.append(token)
            texts.add(token.content)
    names = {token.content for token in named}
    for token in missing:
        if token.content in names:
            token.special = True
    if missing:
        library.add_tokens(missing)
    ids = {token.content: index for index, token in stated.items()}
    return {
        text: (index, given)
        for text, index in ids.items()
        if (given := library.token_to_id(text)) is not None and given != index
    }


def _stated(library: Any, files: TokenizerFiles) -> dict[int, Any]:
    """Read the added tokens that come with an id; those of the tokenizer itself are among them."""
    if "added_tokens_decoder" in files.merged:
        where = f"{files.where}/{SETTINGS}: added_tokens_decoder"
        decoder = files.merged["added_tokens_decoder"]
        if not isinstance(decoder, Mapping):
            raise ZooError(f"{where} must be an object of tokens by id")
        return {_index(index, where): _object(value, where) for index, value in decoder.items()}
    special = {text for text, _ in _named(files)} | {token.content for token in _extra(files)}
    result = {}
    for text, index in files.added.items():
        flags = {"special": text in special, "normalized": text not in special}
        result[_index(index, f"{files.where}/{ADDED}")] = _token(text, f"{files.where}/{ADDED}", **flags)
    return result | dict(library.get_added_tokens_decoder())


def _named(files: TokenizerFiles) -> list[tuple[str, Any]]:
    """List the named special tokens with their texts."""
    where = f"{files.where}/{SETTINGS if files.settings else NAMED}"
    tokens = []
    for name, value in files.names.items():
        text = token_text(value)
        if text is None:
            raise ZooError(f"{where}: {name} must be a token's text, not {repr(value)[:60]}")
        given = _object(value | {"special": True}, where) if isinstance(value, dict) else None
        tokens.append((text, given or _token(text, where, special=True)))
    return tokens


def _extra(files: TokenizerFiles) -> list[Any]:
    """List the special tokens without a name."""
    extra, where = files.merged.get("extra_special_tokens"), f"{files.where}/{SETTINGS}: additional_special_tokens"
    if extra is None or isinstance(extra, Mapping):  # an object gives names: they are among the named
        return []
    if not isinstance(extra, Sequence) or isinstance(extra, str):
        raise ZooError(f"{where} must be a list of tokens")
    return [
        _object({"special": True} | v, where) if isinstance(v, dict) else _token(v, where, special=True) for v in extra
    ]


def _object(value: Any, where: str) -> Any:
    """Make a token of an object with its flags."""
    if not isinstance(value, Mapping) or not isinstance(value.get("content"), str):
        raise ZooError(f"{where}: a token is an object with content, not {repr(value)[:60]}")
    flags = {name: value[name] for name in _FLAGS if name in value}
    return _token(value["content"], where, **flags)


def _token(text: Any, where: str, **flags: Any) -> Any:
    from tokenizers import AddedToken

    if not isinstance(text, str):
        raise ZooError(f"{where}: a token is a text, not {repr(text)[:60]}")
    if wrong := next((name for name, value in flags.items() if not isinstance(value, bool)), None):
        raise ZooError(f"{where}: {wrong} of token {text[:40]!r} must be true or false")
    return AddedToken(text, **flags)


def _index(index: Any, where: str) -> int:
    """Read a token's id, a number or digits."""
    if isinstance(index, str) and index.isascii() and index.isdigit() and len(index) < 12:
        index = int(index)
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < 2**31:
        raise ZooError(f"{where}: {repr(index)[:60]} is not a token id")
    return index
