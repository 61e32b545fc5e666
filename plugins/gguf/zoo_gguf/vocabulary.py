"""The tokenizer of a package as a GGUF file's keys: the inverse of ``tokenizer.py``.

Keys: ggml's ``docs/gguf.md``; kinds of tokens: llama.cpp's ``llama_token_type``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zoo import Recipe, ZooError
from zoo_gguf.pretokenizers import GPT2, PRE_TOKENIZERS
from zoo_gguf.tokenizer import KEY, TEMPLATE

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
_DIGITS = r"\p{N}"


def keys(companions: Mapping[str, bytes], recipe: Recipe) -> dict[str, Any]:
    """Make the keys of tokenizer and chat template; none where the package has no tokenizer.

    Raises:
        ZooError: a kind of tokenizer that llama.cpp does not have, or a way to cut text that it has no name for.
    """
    raw = companions.get("tokenizer.json")
    if raw is None:
        return {f"{KEY}model": "none"}
    told = json.loads(raw)
    model = told["model"]
    if model.get("type") != "BPE":
        raise ZooError(
            f"target 'gguf': llama.cpp has no tokenizer of the kind {model.get('type')!r:.40} for this model"
        )
    pieces = _pieces(told, recipe.architecture.vocab_size)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    texts, kinds = [text for text, _ in pieces], [kind for _, kind in pieces]
    stated: dict[str, Any]
    if _sentencepiece(told):
        prefix = "Prepend" in json.dumps(told.get("normalizer")) or '"always"' in json.dumps(told.get("pre_tokenizer"))
        stated = {
            f"{KEY}model": "llama", f"{KEY}pre": "default", f"{KEY}tokens": texts,
            f"{KEY}scores": _scores(texts, merges), f"{KEY}token_type": kinds, f"{KEY}add_space_prefix": prefix,
        }  # fmt: skip
    else:
        stated = {
            f"{KEY}model": "gpt2", f"{KEY}pre": _pre(told), f"{KEY}tokens": texts, f"{KEY}token_type": kinds,
            f"{KEY}merges": merges,
        }  # fmt: skip
    ids = recipe.tokens
    named = {"bos": ids.bos_token_id, "padding": ids.pad_token_id}
    named |= dict(zip(("eos", "eot", "eom"), ids.eos_token_id, strict=False))
    stated |= {f"{KEY}{name}_token_id": index for name, index in named.items() if index is not None}
    single = json.dumps((told.get("post_processor") or {}).get("single") or told.get("post_processor") or "")
    begins = ids.bos_token_id is not None and json.dumps(texts[ids.bos_token_id]) in single
    stated[f"{KEY}add_bos_token"] = begins
    template = companions.get("chat_template.jinja") or _template(companions)
    return stated | ({TEMPLATE: template.decode()} if template else {})


def _template(companions: Mapping[str, bytes]) -> bytes | None:
    settings = json.loads(companions.get("tokenizer_config.json", b"{}"))
    template = settings.get("chat_template")
    if isinstance(template, list):
        template = {one.get("name"): one.get("template") for one in template}.get("default")
    return template.encode() if isinstance(template, str) else None


def _pieces(told: Mapping[str, Any], count: int) -> list[tuple[str, int]]:
    """List every token by id, with its kind; ids that no text has are unused."""
    single = _BYTES if _sentencepiece(told) else ()
    pieces = {index: (text, _BYTE if text in single else _NORMAL) for text, index in told["model"]["vocab"].items()}
    for added in told.get("added_tokens") or ():
        kind = _CONTROL if added.get("special") else _USER_DEFINED
        if added["content"] == told["model"].get("unk_token"):
            kind = _UNKNOWN
        pieces[added["id"]] = added["content"], kind
    return [pieces.get(index, (f"[PAD{index}]", _UNUSED)) for index in range(count)]


def _sentencepiece(told: Mapping[str, Any]) -> bool:
    return bool(told["model"].get("byte_fallback"))


def _scores(texts: list[str], merges: list[str]) -> list[float]:
    """Score each piece by the merge that makes it first: llama.cpp joins the pair of the highest score."""
    rank: dict[str, float] = {}
    for index, merge in enumerate(merges):
        rank.setdefault(merge.replace(" ", ""), -float(index))
    lowest = -float(len(merges))
    return [rank.get(text, lowest) for text in texts]


def _pre(told: Mapping[str, Any]) -> str:
    """Find the name of the way text is cut."""
    patterns: list[str] = []
    stated = told.get("pre_tokenizer") or {}
    for step in stated.get("pretokenizers") or [stated]:
        kind = step.get("type")
        if kind == "Split":
            patterns.append((step.get("pattern") or {}).get("Regex", ""))
        elif kind == "Digits" and step.get("individual_digits"):
            patterns.append(_DIGITS)
        elif kind == "ByteLevel":
            patterns += GPT2.patterns if step.get("use_regex", True) else ()
        else:
            patterns.append(str(kind))
    ignores = bool(told["model"].get("ignore_merges"))
    for name, known in PRE_TOKENIZERS.items():
        if known.patterns == tuple(patterns) and known.ignore_merges == ignores:
            return name
    raise ZooError(
        "target 'gguf': its tokenizer cuts text in a way that llama.cpp has no name for, or none that is written here; "
        f"known: {', '.join(sorted(PRE_TOKENIZERS))}"
    )
