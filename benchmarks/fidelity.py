"""Compare a package's next-token distributions with the reference's: KL divergence, top-1 agreement, perplexity."""

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    """Normalize the last axis in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True)))


def perplexity(log_probs: NDArray[np.float64], tokens: NDArray[np.int64]) -> float:
    """Return exp of the mean negative log-likelihood of each token given those before it in its window."""
    own = np.take_along_axis(log_probs[:, :-1], tokens[:, 1:, None], axis=-1)
    return float(np.exp(-own.mean()))


def fidelity(reference: Logits, package: Logits, tokens: NDArray[np.int64]) -> dict[str, float]:
    """Return the figures of one package; arrays are [windows, length, vocab] and [windows, length].

    KL is KL(reference || package) in nats; tokens that a package gives no probability at all count as 1e-30.
    """
    p, q = log_softmax(reference), log_softmax(package)
    q = np.maximum(q, np.log(1e-30))
    kl = (np.exp(p) * (p - q)).sum(axis=-1)
    return {
        "kl_mean": float(kl.mean()),
        "kl_worst": float(kl.max()),
        "top1": float((p.argmax(-1) == q.argmax(-1)).mean()),
        "perplexity": perplexity(q, tokens),
        "perplexity_reference": perplexity(p, tokens),
    }
