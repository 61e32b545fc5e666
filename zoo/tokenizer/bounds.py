"""Refuse a ``tokenizer.json`` that makes much of little, before the library runs any of it.

A tokenizer is a small program: replacements, templates, regular expressions. Thirty replacements of ``a`` by ``aa``
make 16 GB of one letter, already of an added token while the file is loaded, and the library ends the process when
memory is gone.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from typing import Any

from pydantic_core import from_json

from zoo.errors import ZooError

MAX_BYTES = 64 * 2**20
"""Of the file; the largest of real models is about 35 MB."""
GROWTH = 100.0
"""How many times as long replacements may make a text; those of real models triple it."""
COMPONENTS = 64
"""Normalizers, decoders and so on, one after the other."""
SEQUENCES = 8
"""How often a post-processor may repeat a text."""
WORD = 1024
"""Bytes of an added token, a prefix, a suffix or a replacement from a table."""
WORDS = 4 * 2**20
"""Bytes of all added tokens together."""


def check(raw: bytes, where: str) -> None:
    """Check what a tokenizer does to a text.

    Args:
        where: the file, for messages.

    Raises:
        ZooError: it is too large, not JSON, or does too much.
    """
    if len(raw) > MAX_BYTES:
        raise ZooError(f"{where} has {len(raw)} bytes; at most {MAX_BYTES} are read")
    try:
        data = from_json(raw)
    except ValueError as error:
        raise ZooError(f"{where} is not JSON: {str(error)[:100]}; fetch it again") from None
    if not isinstance(data, dict):
        raise ZooError(f"{where} is not a tokenizer, but {type(data).__name__}; fetch it again")
    for key, items, growth in (
        ("normalizer", "normalizers", _growth),
        ("pre_tokenizer", "pretokenizers", _growth),
        ("post_processor", "processors", _repetition),
        ("decoder", "decoders", _decoder_growth),
    ):
        _check_chain(key, items, data.get(key), growth, where)
    _check_added(data.get("added_tokens"), where)
    model = data.get("model")
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token"):
        if isinstance(model, dict) and _size(model.get(key)) > WORD:
            raise ZooError(f"{where}: model.{key} is longer than {WORD} bytes; the tokenizer is not read")


def _check_chain(key: str, items: str, root: Any, growth: Callable[[dict[str, Any]], float], where: str) -> None:
    """Follow one kind of component, and multiply what each does to a text."""
    factor = 1.0
    for count, component in enumerate(_components(root, items), 1):
        factor *= max(1.0, growth(component))
        if count > COMPONENTS:
            raise ZooError(f"{where}: its {key} has more than {COMPONENTS} steps; the tokenizer is not read")
        if factor > (SEQUENCES if growth is _repetition else GROWTH):
            raise ZooError(f"{where}: its {key} makes a text {factor:.0f} times as long; the tokenizer is not read")


def _components(node: Any, items: str) -> Iterator[dict[str, Any]]:
    """Go through the steps of a component, those of sequences inside it too."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            inner = node.get(items)
            waiting += inner if isinstance(inner, list) else []


def _growth(component: dict[str, Any]) -> float:
    """Say how many times as long a step may make a text."""
    if "content" in component and "pattern" in component:
        pattern, content = component["pattern"], _size(component["content"])
        literal = pattern.get("String") if isinstance(pattern, dict) else pattern
        if isinstance(literal, str) and literal:
            return content / len(literal.encode("utf-8", "replace"))
        return 1.0 + content  # an expression may match at every character
    longest = max((_size(component.get(key)) for key in ("prepend", "prefix", "suffix", "replacement")), default=0)
    if longest > WORD:
        return float("inf")
    table = component.get("precompiled_charsmap")
    return 1.0 if not isinstance(table, str) or _longest_replacement(table) <= WORD else float("inf")


def _decoder_growth(component: dict[str, Any]) -> float:
    """The same of a decoder, which runs beside the model for every token: expressions have no place there."""
    pattern = component.get("pattern")
    return float("inf") if isinstance(pattern, dict) and "Regex" in pattern else _growth(component)


def _longest_replacement(table: str) -> int:
    """Find the longest text that a table of characters puts in; the layout is SentencePiece's."""
    try:
        raw = base64.b64decode(table, validate=True)
    except (binascii.Error, ValueError):
        return 0  # the library refuses it
    return max(map(len, raw[4 + int.from_bytes(raw[:4], "little") :].split(b"\0")), default=0)


def _repetition(component: dict[str, Any]) -> float:
    """Say how many times a post-processor writes a text, and bound what it puts around it."""
    most = 1
    for key in ("single", "pair"):
        pieces = component.get(key)
        if isinstance(pieces, list):
            repeated = sum(isinstance(piece, dict) and "Sequence" in piece for piece in pieces)
            most = max(most, repeated, len(pieces) // COMPONENTS)
    special = component.get("special_tokens")
    ids = (
        [token.get("ids") for token in special.values() if isinstance(token, dict)] if isinstance(special, dict) else []
    )
    return float("inf") if any(isinstance(row, list) and len(row) > WORD for row in ids) else float(most)


def _check_added(added: Any, where: str) -> None:
    sizes = (
        [_size(token.get("content")) for token in added if isinstance(token, dict)] if isinstance(added, list) else []
    )
    if max(sizes, default=0) > WORD or sum(sizes) > WORDS:
        raise ZooError(f"{where}: an added token is longer than {WORD} bytes, or all are too long; it is not read")


def _size(text: Any) -> int:
    return len(text.encode("utf-8", "replace")) if isinstance(text, str) else 0
