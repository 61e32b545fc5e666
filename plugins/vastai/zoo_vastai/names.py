"""What a model's name claims: family words with their versions, and sizes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SIZE = re.compile(r"(?<![a-z\d.])(\d+(?:\.\d+)?)b(?![a-z\d])")
_WORD = re.compile(r"([a-z]+)[-_ ]?((?<![a-z]v)\d+(?:\.\d+)?(?![\d.]*b(?![a-z])))?")
_BUILD = re.compile(r"[-_.](?:fp\d+|int\d+|bf16|w\d+a\d+|w\d+kv\d+|tp\d+|b2s|\d{2,})(?=[-_.]|$)")
_COMMON = frozenset(
    [
        *("hf", "chat", "instruct", "base", "it", "vamc", "compile", "quant", "build", "deploy", "yaml", "v", "b"),
        *("gptq", "int", "fp", "tp", "c", "ceval", "alpaca"),
    ]
)
_TOLERANCE = 0.2
"""Marketing rounds sizes: a 33B has 32.5 billion parameters, a 7B 6.7."""


@dataclass(frozen=True)
class Claims:
    """What a name says of the model."""

    words: dict[str, str]
    """Family words, each with the version behind it, or an empty text."""
    sizes: tuple[float, ...]
    """Parameters in billions."""


def claims(name: str) -> Claims:
    """Read a file's or a checkpoint's name."""
    text = name.lower()
    while _BUILD.search(text):
        text = _BUILD.sub("", text)
    sizes = tuple(float(one) for one in _SIZE.findall(text))
    words = {word: version or "" for word, version in _WORD.findall(_SIZE.sub(" ", text)) if word not in _COMMON}
    return Claims(words, sizes)


def disagreements(one: str, other: str) -> Iterator[str]:
    """Say where two names speak of different models."""
    first, second = claims(one), claims(other)
    shared = first.words.keys() & second.words.keys()
    # A name without a size (config.yaml) need not name a model at all.
    if first.words and second.words and first.sizes and not shared:
        yield f"{'-'.join(first.words)} is not {'-'.join(second.words)}"
    for word in sorted(shared):
        versions = first.words[word], second.words[word]
        if all(versions) and versions[0] != versions[1]:
            yield f"{word} {versions[0]} is not {word} {versions[1]}"
    if first.sizes and second.sizes and not any(_near(a, b) for a in first.sizes for b in second.sizes):
        yield f"{first.sizes[0]:g}B is not {second.sizes[0]:g}B"


def _near(one: float, other: float) -> bool:
    """Tell whether two sizes mean the same model: the 33B is called 30B too, but an 8B is no 7B."""
    return abs(one - other) < 0.1 * max(one, other)


def size_disagreement(name: str, parameters: int) -> str | None:
    """Say when a name's size is none that the checkpoint has."""
    sizes = claims(name).sizes
    if sizes and all(abs(one * 1e9 - parameters) > _TOLERANCE * parameters for one in sizes):
        return f"{sizes[0]:g}B is not the size of the checkpoint, which has {parameters / 1e9:.1f}B parameters"
    return None
