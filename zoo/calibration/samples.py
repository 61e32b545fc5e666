"""Texts → calibration samples: blocks of tokens, drawn by a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ZooError
from zoo.tokenizer.library import load

POOL = 4
"""How many times the wanted samples are read before some are drawn; a corpus is never read whole."""


def draw(
    texts: Iterable[str],
    tokenizer: bytes,
    *,
    samples: int,
    length: int,
    seed: int,
    vocab: int,
    name: str,
    random_share: float = 0.0,
) -> NDArray[np.int32]:
    """Cut texts into blocks of ``length`` tokens, one text after the other, and draw ``samples`` of them.

    Each block is led by what the tokenizer (the content of a ``tokenizer.json``) puts before a text, as it is when the
    model is used.

    Args:
        random_share: share of the samples that are tokens drawn at random instead, each as likely; they come last.

    Returns:
        int32 (samples, length).

    Raises:
        ZooError: the texts hold fewer samples, or a token that the model has not.
    """
    count = int(samples * random_share)
    of_text = samples - count
    encoder = load(tokenizer, "tokenizer.json")
    encoder.no_truncation()
    encoder.no_padding()
    lead = list(encoder.encode("").ids)
    body = length - len(lead)
    if body < 1:
        raise ZooError(f"calibration samples of {length} tokens leave no room after the tokenizer's own {len(lead)}")
    blocks: list[list[int]] = []
    rest: list[int] = []
    for text in texts:
        rest += encoder.encode(text, add_special_tokens=False).ids
        while len(rest) >= body:
            blocks.append(lead + rest[:body])
            rest = rest[body:]
            if len(blocks) == of_text * POOL:
                break
        if len(blocks) == of_text * POOL:
            break
    if len(blocks) < of_text:
        raise ZooError(
            f"dataset {name}: holds {len(blocks)} samples of {length} tokens, fewer than the {samples} asked for; "
            "give more text, or lower --samples or --sequence-length"
        )
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(len(blocks), of_text, replace=False))
    tokens = np.array([blocks[index] for index in chosen], np.int32).reshape(of_text, length)
    drawn = generator.integers(vocab, size=(count, length), dtype=np.int32)
    drawn[:, : len(lead)] = lead
    tokens = np.concatenate([tokens, drawn])
    if int(tokens.max()) >= vocab:
        raise ZooError(f"tokenizer.json: makes token {int(tokens.max())}, but the model's vocabulary is {vocab}")
    return tokens


def fingerprint(tokens: NDArray[np.int32]) -> str:
    """SHA-256 of the token ids, as little-endian int32."""
    return hashlib.sha256(np.ascontiguousarray(tokens, "<i4").tobytes()).hexdigest()
