"""Compare a package's next-token distributions with the reference's: KL divergence, top token, perplexity, answers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

Windows = dict[str, list[int]]
"""Kind of text → its windows, by number."""


def fidelity(reference: Path, package: Path, tokens: np.ndarray, kinds: Windows, answers: list[tuple[int, int]],
             ) -> dict[str, Any]:  # fmt: skip
    """Return a package's figures, by kind of text and over all texts.

    KL is KL(reference || package) in nats, its mean over all positions; `perplexity` that of each window's tokens but
    the first.  Windows of chat hold a prompt and the reference's answer, which stands at `answers` (start, stop): where
    the package prefers another token first, its greedy answer departs.

    Args:
        reference: logits [windows, length, vocab] as .npy; `package` too.
        tokens: [windows, length].
    """
    left, right = (np.load(path, mmap_mode="r") for path in (reference, package))
    found: dict[str, Any] = {}
    for kind, numbers in kinds.items():
        rows = [_window(left[number], right[number], tokens[number]) for number in numbers]
        kl, same, own, theirs = (np.concatenate([row[part] for row in rows]) for part in range(4))
        found[kind] = {
            "kl_mean": float(kl.mean()), "kl_worst": float(kl.max()), "top1": float(same.mean()),
            "perplexity": float(np.exp(theirs.mean())), "perplexity_reference": float(np.exp(own.mean())),
            "kl_windows": [float(row[0].mean()) for row in rows],
        }  # fmt: skip
    alike = []
    for number, (start, stop) in enumerate(answers, len(tokens) - len(answers)):
        chosen = right[number, start - 1 : stop - 1].argmax(-1) == tokens[number, start:stop]
        alike.append(len(chosen) if chosen.all() else int(chosen.argmin()))
    texts = list(found.values())
    every = {key: float(np.mean([text[key] for text in texts])) for key in ("kl_mean", "top1")}
    if answers:
        every["greedy_tokens"] = float(np.mean(alike))
        every["greedy_share"] = float(np.mean([n / (b - a) for n, (a, b) in zip(alike, answers, strict=True)]))
    return {**every, "texts": found}


def _window(reference: np.ndarray, package: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, ...]:
    """KL and whether the top token is the same, of every position; -log likelihood of every token on both sides."""
    p, q = (torch.from_numpy(np.array(side)).log_softmax(-1) for side in (reference, package))
    q = q.clamp(min=float(np.log(1e-30)))
    following = torch.from_numpy(tokens[1:].astype(np.int64))[:, None]
    kl = (p.exp() * (p - q)).sum(-1, dtype=torch.float64)
    own, theirs = (-side[:-1].gather(1, following)[:, 0].double() for side in (p, q))
    return kl.numpy(), (p.argmax(-1) == q.argmax(-1)).numpy(), own.numpy(), theirs.numpy()
