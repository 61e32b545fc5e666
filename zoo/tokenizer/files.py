"""The files that describe a tokenizer beside its vocabulary, parsed once.

Which file counts where several speak follows transformers (``PreTrainedTokenizerBase._from_pretrained``):
``tokenizer_config.json`` with ``added_tokens_decoder`` stands for itself; without, ``special_tokens_map.json``
overrides it and ``added_tokens.json`` adds to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from zoo.declarations.recipe import TokenIds
from zoo.errors import ZooError
from zoo.sources.jsonfile import parse_object

SETTINGS = "tokenizer_config.json"
NAMED = "special_tokens_map.json"
ADDED = "added_tokens.json"
NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
GENERIC_CLASSES = frozenset({None, "PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend"})
"""Values of ``tokenizer_class`` that bring no special tokens of their own."""

Companion = Callable[[str], "bytes | None"]
"""Returns the bytes of a file beside the weights, or None where there is none."""


BEGIN = "begin_tokens"
"""The setting that names the tokens before every text, where a recipe states them."""


@dataclass(frozen=True)
class TokenizerFiles:
    """What stands beside the vocabulary.

    Attributes:
        where: the checkpoint or package, for messages.
        settings: ``tokenizer_config.json``.
        named: ``special_tokens_map.json``.
        added: ``added_tokens.json``, text → id.
    """

    where: str = "tokenizer"
    settings: Mapping[str, Any] = field(default_factory=dict)
    named: Mapping[str, Any] = field(default_factory=dict)
    added: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def merged(self) -> dict[str, Any]:
        """The settings, ``special_tokens_map.json`` merged in, ``additional_special_tokens`` under its newer name."""
        merged = dict(self.settings)
        if not merged.get("extra_special_tokens") and "additional_special_tokens" in merged:
            merged["extra_special_tokens"] = merged.pop("additional_special_tokens")
        if "added_tokens_decoder" in merged:
            return merged
        for key, value in self.named.items():
            if key == "extra_special_tokens" and isinstance(value, list):
                value = [*(merged.get(key) or []), *value]
            merged[key] = value
        if "extra_special_tokens" not in merged and "additional_special_tokens" in merged:
            merged["extra_special_tokens"] = merged.pop("additional_special_tokens")
        return merged

    @cached_property
    def names(self) -> dict[str, Any]:
        """The named special tokens as they are written, text or object: the usual ones, then the model's own."""
        names = {name: self.merged[name] for name in NAMES if self.merged.get(name) is not None}
        own = {key: value for key, value in self.merged.items() if key not in NAMES and key.endswith("_token")}
        extra = self.merged.get("extra_special_tokens")
        own |= extra if isinstance(extra, dict) else {}
        return names | {key: value for key, value in own.items() if isinstance(value, str)}

    def with_tokens(self, tokens: TokenIds) -> TokenizerFiles:
        """Add the special tokens that a recipe names, where no file does."""
        if not tokens.added or "added_tokens_decoder" in self.settings:
            return self
        decoder = {
            # A bare word is a token by itself alone, not inside another.
            str(index): {"content": text, "special": True, "normalized": False, "single_word": text.isalnum()}
            for text, index in tokens.added.items()
        }
        return replace(self, settings={**self.settings, "added_tokens_decoder": decoder, BEGIN: list(tokens.begin)})

    def special_tokens(self, of_class: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """Name the special tokens that a chat template may write.

        Args:
            of_class: what stands for a name that no file mentions, where ``tokenizer_class`` is one that has such
                tokens of its own. A name that a file gives as null is no token.
        """
        result = {name: text for name, value in self.names.items() if (text := token_text(value)) is not None}
        name = self.settings.get("tokenizer_class")
        if isinstance(name, str) and name not in GENERIC_CLASSES:
            for key, default in (of_class or {}).items():
                if key not in self.merged and default is not None:
                    result[key] = default
        return result


def token_text(value: Any) -> str | None:
    """Return the text of a token that is written as text or as an object with ``content``."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def read_files(companion: Companion, where: str) -> TokenizerFiles:
    """Read the files of a checkpoint or package.

    Raises:
        ZooError: one of them is not a JSON object.
    """

    def read(name: str) -> dict[str, Any]:
        raw = companion(name)
        return {} if raw is None else parse_object(raw, f"{where}/{name}", duplicates=True)

    return TokenizerFiles(where, read(SETTINGS), read(NAMED), read(ADDED))


def require_text(raw: bytes, where: str) -> str:
    """Decode UTF-8.

    Raises:
        ZooError: it is not.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ZooError(f"{where}: not UTF-8 at byte {error.start}") from None
