"""Both sides in step: embed, send every sequence through one layer after the other, compare logits slice by slice.

An engine that gives logits alone has no layers to compare; it is held against the reference by its logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from zoo.errors import ZooError
from zoo.verify.candidate import Candidate
from zoo.verify.engine_candidate import EngineCandidate
from zoo.verify.metrics import Continuation, LogitFigures, TextFigures, relative_error, root_ratio
from zoo.verify.references import Reference
from zoo.verify.result import Figures, Greedy, Place, finite
from zoo.verify.samples import Sample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PROBES = 4
"""Sequences on which each layer is also tried with the reference's input."""
PROBE_LENGTH = 48
SLICE = 128
"""Positions whose logits are held at a time."""
_QUIET = 1e-2
"""A layer that adds less than this share of the hidden states is measured against the share, not what it adds."""

Progress = Callable[[str, int, int], None]
"""What is being done, steps done, steps in all."""


def compare(
    reference: Reference,
    candidate: Candidate | EngineCandidate,
    samples: Sequence[Sample],
    tie: float,
    progress: Progress | None = None,
) -> Figures:
    """Measure how far a package is from its reference.

    Args:
        candidate: the package, by its layers or through an engine that gives logits.
        samples: token sequences; both sides see the same ids at every position (teacher forcing).
        tie: see ``LogitFigures.add``.
        progress: called before each step.

    Raises:
        ZooError: the two sides have other numbers of layers, or one of them cannot run.
    """
    layered = candidate if isinstance(candidate, Candidate) else None
    if layered is not None and reference.num_layers != layered.num_layers:
        raise ZooError(f"the package has {layered.num_layers} layers, the reference {reference.num_layers}")
    if not samples:
        raise ZooError("no sample is left to verify on; the context length is too short")
    total = reference.num_layers + 2
    say = progress or (lambda what, done, of: None)
    say("embedding", 0, total)
    sequences = [sample.ids for sample in samples]
    reference.begin(sequences)
    candidate.begin(sequences)
    places = _embedded(reference, layered, len(samples))
    for layer in range(reference.num_layers):
        say(f"layer {layer}", layer + 1, total)
        places += _step(reference, layered, layer, len(samples))
    say("head", total - 1, total)
    logits, text, error, wanted = LogitFigures(), TextFigures(), 0.0, 0.0
    continued = []
    for index, sample in enumerate(samples):
        first = len(sample.ids) - sample.continued - 1  # the position before the first token of the package's own
        continuation = Continuation(sample.name)
        for start in range(0, len(sample.ids), SLICE):
            stop = min(start + SLICE, len(sample.ids))
            right, found = reference.logits(index, start, stop), candidate.logits(index, start, stop)
            if right.shape != found.shape:
                raise ZooError(f"the package gives logits {found.shape}, the reference {right.shape}")
            if layered is None:  # other engines give logits less a constant of their row
                right, found = (side - side.mean(1, keepdims=True) for side in (right, found))
            following = sample.ids[start + 1 : stop + 1] if sample.text else sample.ids[:0]
            logits.add(right, found, tie)
            if len(following):
                text.add(right[: len(following)], found[: len(following)], following)
            part = relative_error(found, right)
            error, wanted = error + part[0], wanted + part[1]
            if sample.continued and stop > first:
                begin = max(first, start)
                chosen = sample.ids[begin + 1 : stop + 1]
                continuation.add(right[begin - start : begin - start + len(chosen)], chosen)
        if sample.continued:
            continued.append(continuation)
    if layered is not None:
        own = _head(reference, layered, [len(sample.ids) for sample in samples[:PROBES]])
        places.append(Place(name="head", carried=finite(root_ratio(error, wanted)), own=finite(own)))
    return Figures(
        positions=logits.positions,
        text_tokens=text.tokens,
        top1=logits.top1,
        top1_but_ties=logits.top1_but_ties,
        kl_mean=finite(logits.kl_mean),
        kl_worst=finite(logits.kl_worst),
        largest_logit_difference=finite(logits.largest_difference),
        logit_difference=finite(logits.difference),
        perplexity_reference=finite(text.perplexity(text.reference)),
        perplexity=finite(text.perplexity(text.package)),
        perplexity_chance=finite(text.chance),
        not_finite=logits.not_finite,
        places=tuple(places),
        greedy=tuple(
            Greedy(prompt=prompt.prompt, tokens=prompt.tokens, equal=prompt.equal, worst=prompt.worst)
            for prompt in continued
        )
        or None,
    )


def _embedded(reference: Reference, candidate: Candidate | None, sequences: int) -> list[Place]:
    """Compare what enters the first layer."""
    if candidate is None:
        return []
    carried = finite(_carried(reference, candidate, sequences))
    return [Place(name="embedding", carried=carried, own=carried)]


def _step(reference: Reference, candidate: Candidate | None, layer: int, sequences: int) -> list[Place]:
    """Send both sides through a layer, and the package also what the reference has before it."""
    if candidate is None:
        reference.step(layer)
        return []
    probed = range(min(PROBES, sequences))
    before = {index: reference.states(index)[:PROBE_LENGTH].copy() for index in probed}
    reference.step(layer)
    tried = candidate.step(layer, before)
    own = _own(before, {index: reference.states(index)[:PROBE_LENGTH] for index in probed}, tried)
    carried = _carried(reference, candidate, sequences)
    return [Place(name=f"layer {layer}", carried=finite(carried), own=finite(own))]


def _carried(reference: Reference, candidate: Candidate, sequences: int) -> float:
    """Relative RMS error of all hidden states as they are now."""
    parts = [relative_error(candidate.states(index), reference.states(index)) for index in range(sequences)]
    return root_ratio(sum(error for error, _ in parts), sum(wanted for _, wanted in parts))


def _own(
    before: dict[int, NDArray[np.float32]], right: dict[int, NDArray[np.float32]], found: dict[int, NDArray[np.float32]]
) -> float:
    """Error of one layer on the same input, relative to what it adds."""
    error = added = states = 0.0
    for index, wanted in right.items():
        part, state = relative_error(found[index], wanted)
        error, states = error + part, states + state
        added += relative_error(before[index], wanted)[0]
    return root_ratio(error, max(added, _QUIET**2 * states))


def _head(reference: Reference, candidate: Candidate, lengths: Sequence[int]) -> float:
    """Error of the final norm and the head on the reference's hidden states."""
    error = wanted = 0.0
    for index, length in enumerate(lengths):
        stop = min(length, PROBE_LENGTH)
        part = relative_error(candidate.head(reference.states(index)[:stop]), reference.logits(index, 0, stop))
        error, wanted = error + part[0], wanted + part[1]
    return root_ratio(error, wanted)
