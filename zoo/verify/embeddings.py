"""Hold an encoder's package against the original weights: its vectors or scores, text by text.

The reference is transformers where it has the model, else the architecture's own operations in torch; both in float32.
What sentence-transformers adds, pooling and normalization, is arithmetic of a few lines and the same on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import computed_field

from zoo.calibration.weights import read_float32
from zoo.contracts import ArchitecturePart, Checkpoint
from zoo.declarations.architecture import Architecture
from zoo.declarations.base import Value
from zoo.declarations.recipe import Precision
from zoo.embedding.engine import EncoderEngine
from zoo.embedding.pooling import pool
from zoo.embedding.tokens import TextTokens
from zoo.errors import ZooError
from zoo.operations import record
from zoo.operations.compute import compute_program
from zoo.quantizers.slab import Scratch
from zoo.verify.compare import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

COSINES: dict[Precision, float] = {"fp32": 0.9999, "fp16": 0.9995, "int8": 0.995, "int4": 0.9}
"""The smallest cosine of a text's vector and the reference's."""
RANKS: dict[Precision, float] = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.98, "int4": 0.8}
"""The smallest rank correlation of the similarities of all pairs of texts, or of a classifier's scores."""
Compute = Callable[[Sequence[int]], "NDArray[np.float32]"]
"""Token ids of a text → its hidden states (tokens, width), or a classifier's logits (labels,)."""


class EncoderCheck(Value):
    """A figure and its limit."""

    name: str
    value: float
    limit: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        return self.value >= self.limit


class EncoderVerdict(Value):
    """What the comparison came to."""

    texts: int
    checks: tuple[EncoderCheck, ...]
    worst: str
    """The text whose vector is farthest from the reference's."""

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def compare_encoder(
    engine: EncoderEngine,
    reference: Compute,
    texts: Sequence[tuple[str, Sequence[int]]],
    precision: Precision,
    progress: Progress | None = None,
) -> EncoderVerdict:
    """Compare a package with its reference.

    Args:
        reference: see ``reference_of``.
        texts: name and token ids of each; one of no tokens is passed over.
        progress: called before each text.
    """
    texts = [sample for sample in texts if len(sample[1])]
    tokens = [TextTokens(list(map(int, ids)), [0] * len(ids)) for _, ids in texts]
    results = []
    for index, (name, ids) in enumerate(texts):
        if progress is not None:
            progress(f"text {name}", index, len(texts))
        result = reference(ids)
        results.append(result if engine.labels else pool(result, engine.modules.pooling))
    wanted = np.stack(results).astype(np.float64)
    given = (engine.logits(tokens) if engine.labels else engine.vectors(tokens)).astype(np.float64)
    if not np.isfinite(given).all():
        raise ZooError(f"{engine.package.name}: gives numbers that are not finite")
    close = cosines(given, wanted)
    single = wanted.shape[1] == 1
    ranks = (given[:, 0], wanted[:, 0]) if single else (_similarities(given), _similarities(wanted))
    checks = (
        EncoderCheck(name="smallest cosine", value=float(close.min()), limit=COSINES[precision]),
        EncoderCheck(name="rank correlation", value=correlation(*ranks), limit=RANKS[precision]),
    )
    return EncoderVerdict(texts=len(texts), checks=checks, worst=texts[int(close.argmin())][0])


def cosines(given: NDArray[Any], wanted: NDArray[Any]) -> NDArray[Any]:
    """The cosine of each row and the wanted one, (texts, width) → (texts,).

    A single score has no direction: how far it is from the wanted one, in their spread, stands for the angle.
    """
    if wanted.shape[1] == 1:
        apart = np.abs(given - wanted)[:, 0] / max(float(wanted.std()), 1e-12)
        return np.asarray(1 - apart**2 / 2)
    lengths = np.linalg.norm(given, axis=1) * np.linalg.norm(wanted, axis=1)
    return np.asarray((given * wanted).sum(1) / np.maximum(lengths, 1e-30))


def _similarities(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cosines of all pairs, (pairs,)."""
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    pairs: NDArray[np.float64] = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    return pairs


def correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Spearman's rank correlation; equal values share the mean of their ranks."""
    if len(one) < 2:
        return 1.0
    ranks = [_ranks(values) - (len(values) - 1) / 2 for values in (one, other)]
    spread = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float((ranks[0] * ranks[1]).sum() / spread) if spread else float("nan")


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: NDArray[np.float64] = (last - (counts + 1) / 2).astype(np.float64)[places]
    return means


def reference_of(checkpoint: Checkpoint, part: ArchitecturePart, arch: Architecture) -> tuple[str, Compute]:
    """Choose what computes a checkpoint rightly, and name it.

    Raises:
        ZooError: torch or transformers is missing or refuses the checkpoint.
    """
    from zoo.verify.reference import require_reference

    require_reference()
    if checkpoint.folder is not None:
        return "transformers", _transformers(checkpoint)
    import torch

    program, scratch = record(part, arch), Scratch()
    weights = {
        parameter.name: torch.from_numpy(read_float32(parameter, checkpoint, scratch).copy())
        for parameter in part.parameters(arch)
    }

    def compute(ids: Sequence[int]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = compute_program(program, [int(token_id) for token_id in ids], weights).numpy()
        return result

    return "its own operations in torch", compute


def _transformers(checkpoint: Checkpoint) -> Compute:
    import torch
    import transformers

    classes = checkpoint.config.get("architectures") or [""]
    scores = str(classes[0]).endswith("ForSequenceClassification")
    kind: Any = transformers.AutoModelForSequenceClassification if scores else transformers.AutoModel
    try:
        loaded = kind.from_pretrained(
            checkpoint.folder, dtype=torch.float32, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # it raises whatever its readers raise
        said = " ".join(str(error).split())[:200]
        raise ZooError(f"{checkpoint.name}: transformers cannot open it: {said}") from None
    model: Any = loaded.eval()

    def compute(ids: Sequence[int]) -> NDArray[np.float32]:
        with torch.inference_mode():
            result = model(torch.tensor([[int(token_id) for token_id in ids]]))
        values: NDArray[np.float32] = (result.logits if scores else result.last_hidden_state)[0].numpy()
        return values

    return compute
