"""A bare ``tokenizer.model`` of sentencepiece, turned into the ``tokenizer.json`` that the tokenizers library reads.

Sources: sentencepiece's ``sentencepiece_model.proto`` for the fields; for what each becomes, the fast tokenizers of
LLaMA-like checkpoints: BPE with byte fallback, spaces written as ``▁``, one prepended, the begin token in front.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import ZooError
from zoo.protobuf import BYTES, FIXED32, VARINT, Malformed, fields, varint

SPACE = "▁"
_UNIGRAM, _BPE = 1, 2
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_TYPES = {3: "word", 4: "char"}


@dataclass
class Pieces:
    """What the model file says."""

    pieces: list[tuple[str, float, int]] = field(default_factory=list)
    """(text, score, type) by id."""
    kind: int = _UNIGRAM
    byte_fallback: bool = False
    unk_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    whitespace_suffix: bool = False
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True


def read_model(raw: bytes, where: str) -> Pieces:
    """Read the parts of a sentencepiece model that decide how it splits text.

    Raises:
        ZooError: it is none.
    """
    result = Pieces()
    try:
        for number, kind, begin, end in fields(raw, 0, len(raw)):
            if number == 1 and kind == BYTES:
                result.pieces.append(_piece(raw, begin, end))
            elif number == 2 and kind == BYTES:
                _trainer(raw, begin, end, result)
            elif number == 3 and kind == BYTES:
                _normalizer(raw, begin, end, result)
    except (Malformed, UnicodeDecodeError) as error:
        raise ZooError(f"{where}: not a sentencepiece model: {error}") from None
    if not result.pieces:
        raise ZooError(f"{where}: not a sentencepiece model: it holds no pieces")
    return result


def _piece(raw: bytes, begin: int, end: int) -> tuple[str, float, int]:
    text, score, kind = "", 0.0, _NORMAL
    for number, wire, start, stop in fields(raw, begin, end):
        if number == 1 and wire == BYTES:
            text = raw[start:stop].decode("utf-8")
        elif number == 2 and wire == FIXED32:
            score = struct.unpack("<f", raw[start:stop])[0]
        elif number == 3 and wire == VARINT:
            kind = varint(raw, start, stop)[0]
    return text, score, kind


def _trainer(raw: bytes, begin: int, end: int, result: Pieces) -> None:
    names = {3: "kind", 24: "whitespace_suffix", 35: "byte_fallback", 40: "unk_id", 41: "bos_id", 42: "eos_id"}
    for number, wire, start, stop in fields(raw, begin, end):
        if number in names and wire == VARINT:
            value = varint(raw, start, stop)[0]
            # Negative ids, "there is none", are written as 64-bit two's complement.
            value = value - 2**64 if value >= 2**63 else value
            setattr(result, names[number], bool(value) if number in (24, 35) else value)


def _normalizer(raw: bytes, begin: int, end: int, result: Pieces) -> None:
    for number, wire, start, stop in fields(raw, begin, end):
        if number == 2 and wire == BYTES:
            result.charsmap = raw[start:stop]
        elif number == 3 and wire == VARINT:
            result.add_dummy_prefix = bool(varint(raw, start, stop)[0])
        elif number == 4 and wire == VARINT:
            result.remove_extra_whitespaces = bool(varint(raw, start, stop)[0])


def merges_of(pieces: list[tuple[str, float, int]]) -> list[list[str]]:
    """Recover the merges of a BPE model, the most urgent first.

    sentencepiece merges the adjacent pair whose result has the best score; so every way to cut a piece into two others
    is a merge, ranked by the score of the piece. A user-defined piece is cut out before anything merges. One that holds
    spaces meets no text as it is written, since they have become ``▁``: merges reach it, and come before all others.
    """
    ids = {text: at for at, (text, _, kind) in enumerate(pieces) if kind in (_NORMAL, _USER_DEFINED)}
    ranked = []
    for text, score, kind in pieces:
        if kind != _NORMAL and not (kind == _USER_DEFINED and SPACE in text):
            continue
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in ids and right in ids:
                rank = -score if kind == _NORMAL else -math.inf
                ranked.append((rank, -len(left), -len(right), ids[left], ids[right], left, right))
    ranked.sort()
    return [[left, right] for *_, left, right in ranked]


def convert(raw: bytes, settings: Mapping[str, Any], added: Mapping[str, Any], where: str) -> bytes:
    """Make ``tokenizer.json`` from ``tokenizer.model``.

    Args:
        raw: the model file.
        settings: ``tokenizer_config.json``, or nothing.
        added: ``added_tokens.json``, or nothing.
        where: the file's name in messages.

    Raises:
        ZooError: the file is not a sentencepiece model, or of a kind that has no counterpart.
    """
    model = read_model(raw, where)
    if model.kind not in (_UNIGRAM, _BPE) or model.whitespace_suffix:
        kind = "with spaces as suffixes" if model.whitespace_suffix else _TYPES.get(model.kind, str(model.kind))
        raise ZooError(f"{where}: a sentencepiece model {kind} has no tokenizer.json; bring one")
    if not 0 <= model.unk_id < len(model.pieces):
        raise ZooError(f"{where}: its unknown token, id {model.unk_id}, is not one of its {len(model.pieces)} pieces")
    tokens = _added_tokens(model, settings, added)
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": tokens,
        "normalizer": _normalizers(model, settings),
        "pre_tokenizer": _pre_tokenizer(model, settings),
        "post_processor": _post_processor(model, settings, tokens),
        "decoder": _decoder(model, settings),
        "model": _model(model, where),
    }
    return json.dumps(document, ensure_ascii=False, indent=1).encode()


def _model(model: Pieces, where: str) -> dict[str, Any]:
    if model.kind == _UNIGRAM:
        vocab = [[text, score] for text, score, _ in model.pieces]
        return {"type": "Unigram", "unk_id": model.unk_id, "vocab": vocab, "byte_fallback": model.byte_fallback}
    ids = {text: at for at, (text, _, _) in enumerate(model.pieces)}
    if len(ids) != len(model.pieces):
        raise ZooError(f"{where}: two of its pieces are the same text")
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": model.pieces[model.unk_id][0],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": model.byte_fallback,
        "ignore_merges": False,
        "vocab": ids,
        "merges": merges_of(model.pieces),
    }


def _added_tokens(model: Pieces, settings: Mapping[str, Any], added: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Special and user-defined pieces, and what a fine-tune added after training, by id."""
    tokens: dict[int, dict[str, Any]] = {}
    for at, (text, _, kind) in enumerate(model.pieces):
        if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED):
            tokens[at] = _token(at, text, special=kind != _USER_DEFINED)
    for text, at in added.items():
        if isinstance(at, int) and at >= 0:
            tokens[at] = _token(at, text, special=True)
    decoder = settings.get("added_tokens_decoder")
    for key, entry in decoder.items() if isinstance(decoder, dict) else ():
        if key.isdecimal() and isinstance(entry, dict) and isinstance(entry.get("content"), str):
            flags = {
                name: entry[name] for name in ("lstrip", "rstrip", "single_word") if isinstance(entry.get(name), bool)
            }
            tokens[int(key)] = {**_token(int(key), entry["content"], special=entry.get("special") is True), **flags}
    return [tokens[at] for at in sorted(tokens)]


def _token(at: int, text: str, *, special: bool) -> dict[str, Any]:
    return {
        "id": at, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        "special": special,
    }  # fmt: skip


def _legacy(settings: Mapping[str, Any]) -> bool:
    """Whether a space is put in front of every stretch between special tokens, not only of the first."""
    return settings.get("legacy") is not False


def _prefix(model: Pieces, settings: Mapping[str, Any]) -> bool:
    return model.add_dummy_prefix and settings.get("add_prefix_space") is not False


def _normalizers(model: Pieces, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    steps: list[dict[str, Any]] = []
    if model.charsmap:
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(model.charsmap).decode()})
    if model.remove_extra_whitespaces:
        steps.append({"type": "Strip", "strip_left": True, "strip_right": True})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if _legacy(settings):
        if _prefix(model, settings):
            steps.append({"type": "Prepend", "prepend": SPACE})
        steps.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
    if not steps:
        return None
    return {"type": "Sequence", "normalizers": steps}


def _pre_tokenizer(model: Pieces, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    if _legacy(settings):
        return None
    scheme = "first" if _prefix(model, settings) else "never"
    return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": False}


def _post_processor(model: Pieces, settings: Mapping[str, Any], tokens: list[dict[str, Any]]) -> dict[str, Any] | None:
    names = {token["id"]: token["content"] for token in tokens}
    ends: list[tuple[str, int]] = []
    for at, key, name, default in (
        (model.bos_id, "add_bos_token", "bos_token", True),
        (model.eos_id, "add_eos_token", "eos_token", False),
    ):
        stated, text = settings.get(key), settings.get(name)
        text = text.get("content") if isinstance(text, dict) else text
        chosen = next((one for one, content in names.items() if content == text), at)
        wanted = stated if isinstance(stated, bool) else default
        ends.append((names[chosen], chosen) if wanted and chosen in names else ("", -1))
    eos = ends.pop()
    if begin := settings.get("begin_tokens"):
        at_text = {content: at for at, content in names.items()}
        ends = [(text, at_text[text]) for text in begin if text in at_text]
    starts = [end for end in ends if end[1] >= 0]
    if not starts and eos[1] < 0:
        return None

    def template(*names: tuple[str, int]) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = []
        for name, kind in names:
            result += [{"SpecialToken": {"id": text, "type_id": kind}} for text, _ in starts]
            result.append({"Sequence": {"id": name, "type_id": kind}})
            if eos[1] >= 0:
                result.append({"SpecialToken": {"id": eos[0], "type_id": kind}})
        return result

    special = {text: {"id": text, "ids": [at], "tokens": [text]} for text, at in [*starts, eos] if at >= 0}
    return {
        "type": "TemplateProcessing",
        "single": template(("A", 0)),
        "pair": template(("A", 0), ("B", 1)),
        "special_tokens": special,
    }


def _decoder(model: Pieces, settings: Mapping[str, Any]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}]
    if model.byte_fallback:
        steps.append({"type": "ByteFallback"})
    steps.append({"type": "Fuse"})
    if _prefix(model, settings):
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}
