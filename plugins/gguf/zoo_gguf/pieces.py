"""A sentencepiece model file of the pieces that a GGUF file lists.

Fields and numbers: sentencepiece's ``sentencepiece_model.proto``. The types of tokens have the same numbers in both.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_BPE = 2


def model_file(
    pieces: Sequence[tuple[str, float, int]],
    *,
    unk: int,
    bos: int,
    eos: int,
    prefix: bool,
    squeeze: bool,
    charsmap: bytes,
) -> bytes:
    """Write a BPE model.

    Args:
        pieces: (text, score, type) by id.
        unk, bos, eos: ids; -1 for none.
        prefix: a space is put before a text.
        squeeze: spaces at the ends are dropped, others reduced to one.
        charsmap: the normalizer's compiled table, or nothing.
    """
    fallback = any(kind == 6 for _, _, kind in pieces)
    trainer = b"".join(
        _number(field, value) for field, value in ((3, _BPE), (35, int(fallback)), (40, unk), (41, bos), (42, eos))
    )
    normalizer = _number(3, int(prefix)) + _number(4, int(squeeze)) + (_bytes(2, charsmap) if charsmap else b"")
    listed = b"".join(
        _bytes(1, _bytes(1, text.encode()) + b"\x15" + struct.pack("<f", score) + _number(3, kind))
        for text, score, kind in pieces
    )
    return listed + _bytes(2, trainer) + _bytes(3, normalizer)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value % 2**64)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
