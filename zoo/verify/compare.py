"""Both sides in step: embed, send every sequence through one layer after the other, compare logits slice by slice.

An engine that gives logits alone has no layers to compare; it is held against the reference by its logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.errors import ZooError
from zoo.verify.candidate import Candidate
from zoo.verify.engine_candidate import EngineCandidate
from zoo.verify.metrics import Continuation, LogitFigures, TextFigures, relative_error, root_ratio
from zoo.verify.references import Reference
from zoo.verify.result import Figures, Greedy, Loss, Place, finite
from zoo.verify.samples import Sample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.verify.composed import ComposedReference

PROBES = 4
"""Sequences on which each layer is also tried with the reference's input."""
PROBE_LENGTH = 48
SLICE = 128
"""Positions whose logits are held at a time."""
ATTRIBUTED = 96
"""Positions whose loss is taken apart, at most one slice."""
APART = 2
"""Sequences on which a layer's error is taken apart."""
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
    levels: ComposedReference | None = None,
) -> Figures:
    """Measure how far a package is from its reference.

    Args:
        candidate: the package, by its layers or through an engine that gives logits.
        samples: token sequences; both sides see the same ids at every position (teacher forcing).
        tie: see ``LogitFigures.add``.
        progress: called before each step.
        levels: the package's dequantized weights with float activations, to take its errors apart.

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
    apart = next((index for index, sample in enumerate(samples) if sample.text), 0)
    if levels is not None:
        levels.begin([sequences[apart][:ATTRIBUTED]])
    places = _embedded(reference, layered, len(samples))
    for layer in range(reference.num_layers):
        say(f"layer {layer}", layer + 1, total)
        places += _step(reference, layered, layer, len(samples), levels)
    say("head", total - 1, total)
    logits, text, error, wanted = LogitFigures(), TextFigures(), 0.0, 0.0
    continued, loss = [], None
    for index, sample in enumerate(samples):
        first = len(sample.ids) - sample.continued - 1  # the position before the first token of the package's own
        continuation, own = Continuation(sample.name), Continuation(sample.name)
        for start in range(0, len(sample.ids), SLICE):
            stop = min(start + SLICE, len(sample.ids))
            right, found = reference.logits(index, start, stop), candidate.logits(index, start, stop)
            if right.shape != found.shape:
                raise ZooError(f"the package gives logits {found.shape}, the reference {right.shape}")
            if levels is not None and (index, start) == (apart, 0):
                loss = _loss(right[:ATTRIBUTED], found[:ATTRIBUTED], levels)
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
                for side, logs in ((continuation, right), (own, found)):
                    side.add(logs[begin - start : begin - start + len(chosen)], chosen)
        if sample.continued:
            continued.append((continuation, own))
    if layered is not None:
        errors = _head(reference, layered, [len(sample.ids) for sample in samples[:PROBES]], levels)
        places.append(Place(name="head", carried=finite(root_ratio(error, wanted)), **errors))
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
            Greedy(
                prompt=prompt.prompt, tokens=prompt.tokens, equal=prompt.equal, worst=prompt.worst, own_worst=own.worst
            )
            for prompt, own in continued
        )
        or None,
        loss=loss,
    )


def _loss(right: NDArray[np.float32], found: NDArray[np.float32], levels: ComposedReference) -> Loss:
    """Take the KL on the first positions of a sequence apart."""
    between, parts = levels.logits(0, 0, len(right)), []
    for wanted, made in ((right, found), (right, between), (between, found)):
        parts.append(LogitFigures())
        parts[-1].add(wanted, made, 0.0)
    whole, weights, activations = (finite(part.kl_mean) for part in parts)
    return Loss(positions=len(right), whole=whole, weights=weights, activations=activations)


def _embedded(reference: Reference, candidate: Candidate | None, sequences: int) -> list[Place]:
    """Compare what enters the first layer."""
    if candidate is None:
        return []
    carried = finite(_carried(reference, candidate, sequences))
    return [Place(name="embedding", carried=carried, own=carried)]


def _step(
    reference: Reference, candidate: Candidate | None, layer: int, sequences: int, levels: ComposedReference | None
) -> list[Place]:
    """Send both sides through a layer, and the package also what the reference has before it."""
    if candidate is None:
        reference.step(layer)
        return []
    probed = range(min(PROBES, sequences))
    before = {index: reference.states(index)[:PROBE_LENGTH].copy() for index in probed}
    reference.step(layer)
    right = {index: reference.states(index)[:PROBE_LENGTH] for index in probed}
    few = {index: before[index] for index in probed if index < APART}
    between = levels.step(layer, few) if levels is not None else None
    errors = _apart(right, candidate.step(layer, before), between, before)
    return [Place(name=f"layer {layer}", carried=finite(_carried(reference, candidate, sequences)), **errors)]


def _carried(reference: Reference, candidate: Candidate, sequences: int) -> float:
    """Relative RMS error of all hidden states as they are now."""
    parts = [relative_error(candidate.states(index), reference.states(index)) for index in range(sequences)]
    return root_ratio(sum(error for error, _ in parts), sum(wanted for _, wanted in parts))


States = Mapping[int, "NDArray[np.float32]"]


def _apart(
    right: States, found: States, between: States | None, before: States | None = None
) -> dict[str, float | None]:
    """Errors of one step on the same input: its own, and the parts that weights and kernels have in it."""
    errors = {"own": finite(_own(before, right, found))}
    if between is not None:
        errors["weights"] = finite(_own(before, {index: right[index] for index in between}, between))
        errors["arithmetic"] = finite(_own(before, between, found))
    return errors


def _own(before: States | None, right: States, found: States) -> float:
    """Error of one step, relative to what it adds to what was before."""
    error = added = states = 0.0
    for index, wanted in right.items():
        part, state = relative_error(found[index], wanted)
        error, states = error + part, states + state
        added += state if before is None else relative_error(before[index], wanted)[0]
    return root_ratio(error, max(added, _QUIET**2 * states))


def _head(
    reference: Reference, candidate: Candidate, lengths: Sequence[int], levels: ComposedReference | None
) -> dict[str, float | None]:
    """Errors of the final norm and the head on the reference's hidden states."""
    stops = {index: min(length, PROBE_LENGTH) for index, length in enumerate(lengths)}
    states = {index: reference.states(index)[:stop] for index, stop in stops.items()}
    return _apart(
        {index: reference.logits(index, 0, stop) for index, stop in stops.items()},
        {index: candidate.head(state) for index, state in states.items()},
        {index: levels.head(states[index]) for index in states if index < APART} if levels is not None else None,
    )
