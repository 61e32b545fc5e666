"""The fixed texts that packages are verified on, as token ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.package.closed import files_of
from zoo.sources.companions import MAX_COMPANION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.contracts import Engine

WINDOW = 512
"""Tokens of a window of text; less where the model's context is shorter."""
LONG = 1024
"""Tokens of the first window, at most: what a long prompt costs shows there."""
QUICK_PROMPTS = 5
QUICK_LENGTH = 64
CONTINUED = (6, 24)
"""Prompts that are continued, and by how many tokens each."""
QUICK_CONTINUED = (2, 8)
LONGEST_CONTINUED = 256
SEED = 1


@dataclass(frozen=True)
class Sample:
    """A token sequence."""

    name: str
    ids: NDArray[np.int64]
    """(length,)"""
    text: bool = False
    """A window of the text whose perplexity is measured; otherwise a prompt."""
    continued: int = 0
    """Tokens at the end that the package's engine chose itself, by greedy decoding."""


Encode = Callable[[str, bool], list[int]]
"""Text, and whether special tokens (bos) are added → token ids."""


def make_samples(
    folder: Path, vocab: int, context: int, *, quick: bool = False, text: str | None = None
) -> list[Sample]:
    """Tokenize the bundled prompts and text with a package's own tokenizer.

    Args:
        folder: the package.
        vocab: size of the vocabulary, which seeded random tokens are drawn from where there is no tokenizer.
        context: the model's context length in tokens; nothing is longer.
        quick: some prompts, cut short, and one short window of text.
        text: the text to measure perplexity on, instead of the bundled one.

    Returns:
        Prompts, then windows of text.
    """
    encode = _tokenizer(folder)
    data = files("zoo.verify") / "data"
    passage = text if text is not None else (data / "passage.txt").read_text(encoding="utf-8")
    if encode is None:
        return _random(vocab, context, quick=quick)
    prompts: list[dict[str, str]] = json.loads((data / "prompts.json").read_text(encoding="utf-8"))
    if quick:
        # Every third one, so that languages, code and signs are all among them.
        prompts = prompts[:: -(-len(prompts) // QUICK_PROMPTS)]
    limit = min(context, QUICK_LENGTH if quick else LONG)
    samples = [Sample(prompt["name"], _array(encode(prompt["text"], True)[:limit])) for prompt in prompts]
    return [sample for sample in samples if len(sample.ids)] + _windows(encode, passage, context, quick=quick)


def continue_prompts(samples: list[Sample], engine: Engine, context: int, *, quick: bool = False) -> list[Sample]:
    """Let the package's engine continue some of the prompts greedily, past any end token.

    The tokens become part of the samples, so that the reference is asked about each of them on the very same prefix.
    """
    prompts, count = QUICK_CONTINUED if quick else CONTINUED
    result = []
    for sample in samples:
        room = context - len(sample.ids)
        if sample.text or prompts == 0 or len(sample.ids) > LONGEST_CONTINUED or room < 1:
            result.append(sample)
            continue
        prompts -= 1
        answer = engine.generate(sample.ids.tolist(), max_new_tokens=min(count, room), ignore_eos=True)
        ids = _array([*sample.ids.tolist(), *answer.token_ids])
        result.append(replace(sample, ids=ids, continued=len(answer.token_ids)))
    return result


def _windows(encode: Encode, passage: str, context: int, *, quick: bool) -> list[Sample]:
    """Cut a text into windows, each led by what the tokenizer puts before a text; the first is the longest."""
    lead = encode("", True)
    first, body = (min(context, length) - len(lead) for length in (LONG, WINDOW))
    if body < 2:
        return []
    ids = encode(passage, False)
    if quick:
        ids = ids[: min(body, WINDOW // 2)]
    pieces = [ids[:first]] + [ids[start : start + body] for start in range(first, len(ids), body)]
    return [
        Sample(f"text-{index}", _array([*lead, *piece]), text=True)
        for index, piece in enumerate(pieces)
        if len(piece) > 1
    ]


def _random(vocab: int, context: int, *, quick: bool) -> list[Sample]:
    import numpy as np

    rng = np.random.default_rng(SEED)
    lengths = (1, 7, 33, 64) if quick else (1, 2, 7, 33, 64, 128, 257, 512)
    sizes = list(dict.fromkeys(min(length, context) for length in lengths))
    return [Sample(f"random-{size}", rng.integers(0, vocab, size, dtype=np.int64)) for size in sizes]


def _array(ids: list[int]) -> Any:
    import numpy as np

    return np.array(ids, np.int64)


def _tokenizer(folder: Path) -> Encode | None:
    raw = files_of(folder, MAX_COMPANION)("tokenizer.json")
    if raw is None:
        return None
    from zoo.tokenizer.library import load

    tokenizer: Any = load(raw, f"{folder.name}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(text: str, special: bool) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=special).ids
        return ids

    return encode
