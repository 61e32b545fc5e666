"""Compare an encoder's row-wise graph with the one that it would replace, as ``trial.py`` does for decoders."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.embedding.modules import read_modules
from zoo.embedding.pooling import pool
from zoo.embedding.session import HIDDEN, ROWWISE, TextSession
from zoo.embedding.tokens import TextTokens
from zoo.engine.rowwise import Trial
from zoo.verify.embeddings import COSINES, cosines
from zoo.verify.samples import make_samples
from zoo.verify.trial import EXACT, ROUNDS, with_float_activations

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zoo.package.folder import Package

SHARE = 0.9
"""Share of what ``zoo verify`` tolerates that its vectors may lose."""
LENGTHS = 128, 16, 16, 16
"""Tokens of the texts that are timed."""


def run_encoder_trial(package: Package, blocks: Path, rowwise: Path, left: str | None) -> Trial:
    """Measure both graphs of an encoder's package; see ``run_trial``."""
    arch, modules = package.manifest.recipe.architecture, read_modules(package.read, package.name)
    longest = min(modules.longest or 2**31, arch.context_length)
    draw = np.random.default_rng(0)
    timed = [_text(draw.integers(0, arch.vocab_size, min(longest, length))) for length in LENGTHS]
    samples = [_text(sample.ids) for sample in make_samples(package.path, arch.vocab_size, longest)]
    samples = [sample for sample in samples if len(sample) >= ROWWISE] or timed
    exact = blocks.with_name(EXACT)
    try:
        exact.write_bytes(with_float_activations(blocks))
        sessions = [TextSession(graph, package.name) for graph in (exact, blocks, rowwise)]
    finally:
        exact.unlink(missing_ok=True)

    def vectors(session: TextSession) -> NDArray[np.float32]:
        if session.result == HIDDEN:
            return np.stack(session.run(samples, lambda hidden: pool(hidden, modules.pooling)))
        return np.stack(session.run(samples, lambda logits: logits.copy()))

    wanted, *others = map(vectors, sessions)
    lost = [float(1 - cosines(other, wanted).min()) for other in others]
    limit = SHARE * (1 - COSINES[package.manifest.recipe.precision])
    return Trial(
        speedup=_speedup(sessions[1], sessions[2], timed),
        kl_blocks=lost[0],
        kl_rowwise=lost[1] if np.isfinite(lost[1]) else float("inf"),
        perplexity=0.0,
        kl_limit=limit - lost[0],
        perplexity_limit=0.0,
        left=left,
        measure="1 - cosine",
    )


def _text(ids: NDArray[np.int64]) -> TextTokens:
    return TextTokens(ids.tolist(), [0] * len(ids))


def _speedup(blocks: TextSession, rowwise: TextSession, texts: list[TextTokens]) -> float:
    """Time texts both ways, in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS + 1):
        for session, taken in zip((blocks, rowwise), times, strict=True):
            started = time.perf_counter()
            session.run(texts, lambda result: None)
            taken.append(time.perf_counter() - started)
    plain, other = (statistics.median(row[1:]) for row in times)
    return plain / other
