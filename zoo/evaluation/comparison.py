"""What two runs over the same samples differ in, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Sequence

from zoo.declarations.base import Value
from zoo.errors import ZooError
from zoo.evaluation.harness import Outcome, Sample, standard_error

_HEADLINE = ("acc", "exact_match", "bits_per_byte")
"""The metric that the verdict is about, by the beginning of its name; otherwise the first."""
_SIGMAS = 2.0
"""Standard errors within which a difference is called noise."""


class MetricDifference(Value):
    """One metric of both."""

    metric: str
    value: float
    other: float
    difference: float
    """``value`` less ``other``, the mean of the samples' differences."""
    stderr: float | None
    """Of the difference, from the paired samples."""
    kept: float | None
    """``value`` over ``other``."""
    kept_stderr: float | None


class Comparison(Value):
    """Two runs of one task."""

    task: str
    what: str
    other: str
    samples: int
    agreement: float | None
    """Share of the samples at which both chose the same answer, right or wrong."""
    metrics: tuple[MetricDifference, ...]
    verdict: str


def compare(task: str, what: str, mine: Outcome, other_name: str, other: Outcome) -> Comparison:
    """Compare two outcomes of one suite.

    Raises:
        ZooError: they are not of the same samples.
    """
    theirs = {(sample.task, sample.document): sample for sample in other.samples}
    pairs = [
        (sample, theirs[sample.task, sample.document])
        for sample in mine.samples
        if (sample.task, sample.document) in theirs
    ]
    if not pairs or len(pairs) != len(mine.samples) or len(pairs) != len(other.samples):
        raise ZooError(f"{task}: {what} and {other_name} were not scored on the same samples")
    names = [name for name in mine.metrics if not name.endswith("_stderr") and name in other.metrics]
    metrics = tuple(_difference(name, mine, other, pairs) for name in names)
    answered = [(one.answer, two.answer) for one, two in pairs if one.answer is not None and two.answer is not None]
    agreement = sum(one == two for one, two in answered) / len(answered) if answered else None
    return Comparison(
        task=task,
        what=what,
        other=other_name,
        samples=len(pairs),
        agreement=agreement,
        metrics=metrics,
        verdict=_verdict(what, other_name, metrics, len(pairs)),
    )


def _difference(name: str, mine: Outcome, other: Outcome, pairs: Sequence[tuple[Sample, Sample]]) -> MetricDifference:
    value, reference = mine.metrics[name], other.metrics[name]
    stderr = kept = kept_stderr = None
    paired = [
        (one.metrics[name], two.metrics[name]) for one, two in pairs if name in one.metrics and name in two.metrics
    ]
    if len(paired) == len(pairs) and math.isclose(math.fsum(a for a, _ in paired) / len(paired), value, rel_tol=1e-9):
        stderr = standard_error([a - b for a, b in paired])
    if reference > 0:
        kept = value / reference
        if stderr is not None:
            # The ratio of two means, to first order: the mean of (a - ratio * b) over the reference's mean.
            error = standard_error([a - kept * b for a, b in paired])
            kept_stderr = None if error is None else error / reference
    return MetricDifference(
        metric=name, value=value, other=reference, difference=value - reference, stderr=stderr, kept=kept,
        kept_stderr=kept_stderr,
    )  # fmt: skip


def headline(names: Sequence[str]) -> str | None:
    """Choose the metric that speaks for a task."""
    for start in _HEADLINE:
        for name in names:
            if name.split(",")[0] == start:
                return name
    return names[0] if names else None


def _verdict(what: str, other: str, metrics: Sequence[MetricDifference], samples: int) -> str:
    name = headline([metric.metric for metric in metrics])
    if name is None:
        return f"{what} and {other} have no metric in common"
    one = next(found for found in metrics if found.metric == name)
    if one.kept is None:
        text = f"{what} scores {one.value:.4g} in {name}, {other} {one.other:.4g}"
    elif one.kept_stderr is None:
        text = f"{what}'s {name} is {one.value:.4f}, {one.kept:.2%} of {other}'s {one.other:.4f}"
    else:
        text = f"{what} keeps {one.kept:.1%} ± {one.kept_stderr:.1%} of {other}'s {name}"
    if one.stderr is None:
        return f"{text}; no standard error for {samples} sample{'s' if samples != 1 else ''}"
    if one.difference == 0 and one.stderr == 0:
        return f"{text}: the same at every sample"
    if abs(one.difference) <= _SIGMAS * one.stderr:
        return f"{text}: no difference that {samples} samples could tell from chance"
    better = "more" if one.difference > 0 else "less"
    return f"{text}: {better} than chance explains over {samples} samples"
