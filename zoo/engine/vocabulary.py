"""The bytes that each token of a vocabulary stands for.

A tokenizer decodes whole texts; a token alone may be half a character. Its name says its bytes in one of two ways:
byte-level vocabularies write each byte as a printable character (GPT-2's table), others write ``▁`` for a space and
``<0xE2>`` for a byte that no other token covers.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, Literal

_BYTE = re.compile(r"^<0x([0-9A-F]{2})>\Z")
Kind = Literal["byte-level", "spaces", "other"]


def kind_of(library: Any) -> Kind:
    """Tell how a vocabulary writes bytes, by its decoder (a ``tokenizers.Tokenizer``)."""
    decoder = library.decoder
    if decoder is None:
        return "other"
    text = json.dumps(json.loads(decoder.__getstate__()), ensure_ascii=False)
    if '"ByteLevel"' in text:
        return "byte-level"
    return "spaces" if "▁" in text or '"Metaspace"' in text else "other"


def token_bytes(name: str, kind: Kind) -> bytes | None:
    """Say which bytes a token adds to a text; None where its name does not tell.

    Args:
        name: the token as the vocabulary writes it.
        kind: how it writes bytes.
    """
    if kind == "byte-level":
        table = _byte_level()
        try:
            return bytes(table[character] for character in name)
        except KeyError:  # an added token, which stands for itself
            return name.encode("utf-8")
    if kind == "spaces":
        if match := _BYTE.match(name):
            return bytes([int(match[1], 16)])
        return name.replace("▁", " ").encode("utf-8")
    return None


@cache
def _byte_level() -> dict[str, int]:
    """Read GPT-2's table backwards: printable bytes are themselves, the others follow from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}
