"""The tokenizer, the chat template and the ends of a GGUF file, as the files that a checkpoint brings.

Byte-level BPE (``tokenizer.ggml.model`` "gpt2"), WordPiece ("bert") and unigrams ("t5") become a ``tokenizer.json``;
sentencepiece's BPE ("llama") becomes the ``tokenizer.model`` that it was, which every build converts. Keys: ggml's
``docs/gguf.md``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from zoo import ZooError
from zoo_gguf.pieces import model_file
from zoo_gguf.pretokenizers import PRE_TOKENIZERS, PreTokenizer

KEY = "tokenizer.ggml."
TEMPLATE = "tokenizer.chat_template"
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4
_NAMES = {
    "bos": "bos",
    "eos": "eos",
    "unknown": "unk",
    "seperator": "sep",
    "padding": "pad",
    "mask": "mask",
    "cls": "cls",
}
"""A GGUF file's names of token ids (one is misspelt there) → the names of ``tokenizer_config.json``."""
_ENDS = ("eos", "eot", "eom")


def companions(metadata: Mapping[str, Any], where: str) -> dict[str, bytes]:
    """Make the files of a tokenizer.

    Args:
        metadata: the file's key-value pairs; arrays as sequences.
        where: the file, for messages.

    Returns:
        ``tokenizer.json`` or ``tokenizer.model``, ``tokenizer_config.json``, ``generation_config.json``; nothing where
        the file has no tokenizer.

    Raises:
        ZooError: a kind or a pre-tokenizer that is not known, or values that contradict each other.
    """
    return _Vocabulary(metadata, where).files() if metadata.get(f"{KEY}model") not in (None, "none", "no_vocab") else {}


class _Vocabulary:
    def __init__(self, metadata: Mapping[str, Any], where: str) -> None:
        self._metadata, self._where = metadata, where
        self.tokens = self._list("tokens", str)
        self.types = self._list("token_type", int) if f"{KEY}token_type" in metadata else [_NORMAL] * len(self.tokens)
        if len(self.types) != len(self.tokens):
            raise self._error(f"{len(self.tokens)} tokens, but {len(self.types)} token types")
        if len(set(self.tokens)) != len(self.tokens):
            raise self._error("two tokens are the same text")

    def files(self) -> dict[str, bytes]:
        kind = self._metadata[f"{KEY}model"]
        if kind == "gpt2":
            files = {"tokenizer.json": _json(self._byte_level())}
        elif kind == "llama":
            files = {"tokenizer.model": self._sentencepiece()}
        elif kind in ("bert", "t5"):
            made = self._word_pieces() if kind == "bert" else self._unigrams()
            return {"tokenizer.json": _json(made), "tokenizer_config.json": _json(self._settings())}
        else:
            raise self._error(f"a tokenizer of the kind {kind!r:.60} is not read; known: bert, gpt2, llama, t5")
        return files | {"tokenizer_config.json": _json(self._settings()), "generation_config.json": _json(self._ends())}

    def _byte_level(self) -> dict[str, Any]:
        pre = self._pre_tokenizer()
        merges = [merge.split(" ") for merge in self._list("merges", str)]
        vocabulary = {text: index for index, text in enumerate(self.tokens)}
        for merge in merges:
            if len(merge) != 2 or any(part not in vocabulary for part in (*merge, "".join(merge))):
                raise self._error(f"merge {' '.join(merge)!r:.60} is not of two tokens that make a third")
        splits = [
            {"type": "Split", "pattern": {"Regex": one}, "behavior": "Isolated", "invert": False}
            for one in pre.patterns
        ]
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": self._added(),
            "normalizer": {"type": "NFC"} if pre.composes else None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, level]},
            "post_processor": self._surrounded(pre.begins) or level,
            "decoder": level,
            "model": {
                "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                "ignore_merges": pre.ignore_merges, "vocab": vocabulary, "merges": merges,
            },
        }  # fmt: skip

    def _word_pieces(self) -> dict[str, Any]:
        """WordPiece, whose words begin with ``▁`` in the file, and their later pieces with nothing."""
        vocabulary: dict[str, int] = {}
        for index, (text, kind) in enumerate(zip(self.tokens, self.types, strict=True)):
            if kind not in (_UNKNOWN, _CONTROL):
                text = text[1:] if text.startswith("▁") else f"##{text}"
            vocabulary[text] = index
        lower = self._flag("normalizer.lowercase", True)
        unknown, first = self._control(100, "unknown"), self._control(101, "cls", "bos")
        last = self._control(102, "seperator", "eos")
        return {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": self._added(),
            "normalizer": {
                "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                "strip_accents": self._flag("normalizer.strip_accents", lower), "lowercase": lower,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": self._around(first, last, None),
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {
                "type": "WordPiece", "unk_token": self.tokens[unknown], "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocabulary,
            },
        }  # fmt: skip

    def _control(self, usual: int, *names: str) -> int:
        """Read the id of a token that a text of an encoder needs, by the first name that a file states.

        Args:
            usual: where it is if the file says nothing, as llama.cpp takes it.
        """
        stated = [index for name in names if (index := self.id_of(name)) is not None]
        index = stated[0] if stated else usual
        if index >= len(self.tokens) or self.types[index] not in (_UNKNOWN, _CONTROL):
            raise self._error(f"{names[0]}_token_id is {index}, which is not one of its control tokens")
        return index

    def _pre_tokenizer(self) -> PreTokenizer:
        name = self._metadata.get(f"{KEY}pre")
        if not isinstance(name, str) or name not in PRE_TOKENIZERS:
            stated = "it names no pre-tokenizer" if name is None else f"pre-tokenizer {name!r:.60} is not known"
            known = ", ".join(sorted(PRE_TOKENIZERS))
            raise self._error(f"{stated}, so its text would be cut by guesswork; known: {known}")
        return PRE_TOKENIZERS[name]

    def _added(self) -> list[dict[str, Any]]:
        return [
            {
                "id": index, "content": self.tokens[index], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": kind != _USER_DEFINED,
            }
            for index, kind in enumerate(self.types)
            if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED) and self.tokens[index]
        ]  # fmt: skip

    def _surrounded(self, begins: bool) -> dict[str, Any] | None:
        bos = self.id_of("bos") if self._flag("add_bos_token", begins) else None
        eos = self.id_of("eos") if self._flag("add_eos_token", False) else None
        return None if bos is None and eos is None else self._around(bos, eos, bos)

    def _around(self, first: int | None, last: int | None, again: int | None, second: int = 1) -> dict[str, Any]:
        """The tokens around a text, as a post-processor.

        Args:
            again: what the second text of a pair begins with.
            second: its type.
        """

        def template(*texts: tuple[str, int, int | None]) -> list[dict[str, Any]]:
            steps: list[dict[str, Any]] = []
            for name, kind, before in texts:
                steps += [] if before is None else [{"SpecialToken": {"id": self.tokens[before], "type_id": kind}}]
                steps.append({"Sequence": {"id": name, "type_id": kind}})
                steps += [] if last is None else [{"SpecialToken": {"id": self.tokens[last], "type_id": kind}}]
            return steps

        used = {self.tokens[index]: index for index in (first, last) if index is not None}
        return {
            "type": "TemplateProcessing",
            "single": template(("A", 0, first)),
            "pair": template(("A", 0, first), ("B", second, again)),
            "special_tokens": {text: {"id": text, "ids": [index], "tokens": [text]} for text, index in used.items()},
        }

    def _unigrams(self) -> dict[str, Any]:
        """Pieces by their likelihood, as XLM-RoBERTa has them."""
        unknown = self._control(3, "unknown")
        first = self._control(0, "bos") if self._flag("add_bos_token", True) else None
        last = self._control(2, "eos") if self._flag("add_eos_token", True) else None
        charsmap = self._charsmap()
        mapped = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}
        prefix = "always" if self._flag("add_space_prefix", True) else "never"
        words = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": prefix, "split": True}
        squeezed = [{"type": "WhitespaceSplit"}] if self._flag("remove_extra_whitespaces", False) else []
        return {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": self._added(),
            "normalizer": mapped if charsmap else None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*squeezed, words]},
            "post_processor": self._around(first, last, last, 0),
            "decoder": words,
            "model": {
                "type": "Unigram", "unk_id": unknown, "byte_fallback": False,
                "vocab": [list(pair) for pair in zip(self.tokens, self._scores(), strict=True)],
            },
        }  # fmt: skip

    def _charsmap(self) -> bytes:
        """Read the normalizer's compiled table: a size, so many bytes of a trie, and text.

        Raises:
            ZooError: it is not one; libraries stop at that with more than a line.
        """
        stated = self._metadata.get(f"{KEY}precompiled_charsmap") or ()
        try:
            table = b"".join(byte.to_bytes() for byte in stated)
            size = int.from_bytes(table[:4], "little")
            table[4 + size :].decode()
        except (AttributeError, OverflowError, TypeError, ValueError):
            size = -1
        if stated and (size % 4 or not 0 <= size <= len(table) - 4):
            raise self._error("precompiled_charsmap is not a table of characters")
        return table

    def _scores(self) -> list[float]:
        scores: list[float] = self._list("scores", float)
        if len(scores) != len(self.tokens):
            raise self._error(f"{len(self.tokens)} tokens, but {len(scores)} scores")
        if not all(abs(score) < 1e30 for score in scores):  # neither NaN nor infinite
            raise self._error("scores must be finite numbers")
        return scores

    def _sentencepiece(self) -> bytes:
        scores = self._scores()
        unknown, bos, eos = (self.id_of(name) for name in ("unknown", "bos", "eos"))
        return model_file(
            list(zip(self.tokens, scores, self.types, strict=True)),
            unk=0 if unknown is None else unknown,
            bos=-1 if bos is None else bos,
            eos=-1 if eos is None else eos,
            prefix=self._flag("add_space_prefix", True),
            squeeze=self._flag("remove_extra_whitespaces", False),
            charsmap=self._charsmap(),
        )

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        for key, name in _NAMES.items():
            index = self.id_of(key)
            settings[f"{name}_token"] = None if index is None else self.tokens[index]
        if self._metadata[f"{KEY}model"] == "llama":
            settings |= {
                "add_bos_token": self._flag("add_bos_token", True), "add_eos_token": self._flag("add_eos_token", False),
                "legacy": True,
            }  # fmt: skip
        own = self._metadata.get(TEMPLATE)
        templates = {"default": own} if isinstance(own, str) else {}
        for key, text in self._metadata.items():
            if key.startswith(f"{TEMPLATE}.") and isinstance(text, str):
                templates[key.removeprefix(f"{TEMPLATE}.")] = text
        if templates.keys() == {"default"}:
            settings["chat_template"] = own
        elif templates:
            settings["chat_template"] = [{"name": name, "template": text} for name, text in templates.items()]
        return settings

    def _ends(self) -> dict[str, Any]:
        ids = [index for name in _ENDS if (index := self.id_of(name)) is not None]
        return {
            "bos_token_id": self.id_of("bos"),
            "eos_token_id": list(dict.fromkeys(ids)),
            "pad_token_id": self.id_of("padding"),
        }

    def id_of(self, name: str) -> int | None:
        """Read one of the file's token ids."""
        value = self._metadata.get(f"{KEY}{name}_token_id")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(self.tokens):
            raise self._error(f"{name}_token_id {value!r:.40} is not one of its {len(self.tokens)} tokens")
        return value

    def _flag(self, name: str, default: bool) -> bool:
        value = self._metadata.get(f"{KEY}{name}", default)
        if not isinstance(value, bool):
            raise self._error(f"{name} must be true or false, not {value!r:.40}")
        return value

    def _list(self, name: str, kind: type) -> list[Any]:
        value = self._metadata.get(f"{KEY}{name}")
        kinds = (int, float) if kind is float else (kind,)
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise self._error(f"{name} is missing or empty")
        if not all(isinstance(item, kinds) and not isinstance(item, bool) for item in value):
            raise self._error(f"{name} must hold {kind.__name__} alone")
        return list(value)

    def _error(self, what: str) -> ZooError:
        return ZooError(f"{self._where}: {what}")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
