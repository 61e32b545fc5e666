"""How hidden states become an embedding, as the files of sentence-transformers state it; and their prompts.

Files: ``modules.json`` lists the modules, ``1_Pooling/config.json`` the pooling, ``sentence_bert_config.json`` the
longest text, ``config_sentence_transformers.json`` the prompts. Keys: sentence-transformers, ``models/Pooling.py``,
``models/Transformer.py`` and ``SentenceTransformer.py``. Without ``modules.json`` it takes the mean and says so; so is
it here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from zoo.declarations.embedding import Pooling
from zoo.errors import ZooError
from zoo.sources.jsonfile import parse_object

MODULES, POOLING = "modules.json", "1_Pooling/config.json"
LENGTH, PROMPTS = "sentence_bert_config.json", "config_sentence_transformers.json"
_FLAGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The keys that say which poolings there are, in the order in which several are laid side by side."""
MOST_PROMPTS, LONGEST_PROMPT = 1000, 100_000


@dataclass(frozen=True)
class Modules:
    """What is done with the hidden states of a text, and what is put before it."""

    pooling: tuple[Pooling, ...] = ("mean",)
    """Several are laid side by side."""
    normalize: bool = False
    """Vectors are divided by their length."""
    longest: int | None = None
    """Tokens of a text at most, special ones included; None for as many as the model has positions."""
    lowercase: bool = False
    """Texts are lowered before anything else."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Name → what is put before a text."""
    default_prompt: str | None = None
    """The name of the prompt that is put before a text where nobody asks for another."""
    stated: bool = False
    """There are files that say so; otherwise these are the usual ones."""


Read = Callable[[str], bytes | None]


def read_modules(read: Read, where: str) -> Modules:
    """Read a package's or a checkpoint's description.

    Args:
        read: file name → its bytes, or None.
        where: for messages.

    Raises:
        ZooError: a file is not what it must be, or states something that is not supported; the message names it.
    """
    kinds = _kinds(read, where)
    length = _object(read, LENGTH, where)
    texts = _object(read, PROMPTS, where)
    prompts = texts.get("prompts") or {}
    if not _is_table(prompts):
        raise ZooError(f"{where}/{PROMPTS}: prompts must be texts by name")
    default = texts.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ZooError(f"{where}/{PROMPTS}: default_prompt_name {repr(default)[:60]} is not one of its prompts")
    longest = length.get("max_seq_length")
    if longest is not None and (isinstance(longest, bool) or not isinstance(longest, int) or longest < 1):
        raise ZooError(f"{where}/{LENGTH}: max_seq_length must be a whole number above 0, not {repr(longest)[:60]}")
    return Modules(
        pooling=_pooling(_object(read, POOLING, where), f"{where}/{POOLING}") if "Pooling" in kinds else ("mean",),
        normalize="Normalize" in kinds,
        longest=longest,
        lowercase=length.get("do_lower_case") is True,
        prompts=prompts,
        default_prompt=default,
        stated=bool(kinds),
    )


def _kinds(read: Read, where: str) -> list[str]:
    """Name the modules by the last part of their type; empty where there is no list."""
    raw = read(MODULES)
    if raw is None:
        return []
    listed = parse_object(b'{"modules":' + raw + b"}", f"{where}/{MODULES}")["modules"]
    if not isinstance(listed, list) or not all(isinstance(module, dict) for module in listed):
        raise ZooError(f"{where}/{MODULES}: is not a list of modules")
    kinds = [str(module.get("type")).rsplit(".", 1)[-1] for module in listed]
    known = ("Transformer", "Pooling", "Normalize")
    for kind, one in zip(kinds, listed, strict=True):
        if kind not in known:
            raise ZooError(f"{where}/{MODULES}: module {kind[:60]!r} is not supported; known are {', '.join(known)}")
        if kind == "Pooling" and one.get("path") != POOLING.partition("/")[0]:
            raise ZooError(f"{where}/{MODULES}: the pooling is not in {POOLING}, the only place where it is read")
    return kinds


def _pooling(config: Mapping[str, Any], where: str) -> tuple[Pooling, ...]:
    """Read which poolings are laid side by side."""
    stated = config.get("pooling_mode")
    names = [stated] if isinstance(stated, str) else stated if isinstance(stated, list) else None
    if names is None:
        unknown = [key for key in config if key.startswith("pooling_mode_") and key not in _FLAGS and config[key]]
        names = [name for key, name in _FLAGS.items() if config.get(key) is True] or (unknown[:1] or ["nothing"])
    for name in names:
        if name not in get_args(Pooling):
            known = ", ".join(get_args(Pooling))
            raise ZooError(f"{where}: pooling {str(name)[:60]!r} is not known; known are {known}")
    return tuple(names)


def _object(read: Read, name: str, where: str) -> dict[str, Any]:
    raw = read(name)
    return {} if raw is None else parse_object(raw, f"{where}/{name}")


def _is_table(prompts: Any) -> bool:
    return (
        isinstance(prompts, dict)
        and len(prompts) <= MOST_PROMPTS
        and all(isinstance(text, str) and len(text) <= LONGEST_PROMPT for text in prompts.values())
    )
