"""Runs the harness over a suite and takes its results apart: scores, standard errors, and what every sample gave."""

from __future__ import annotations

import contextlib
import math
import random
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.declarations.base import digest
from zoo.errors import ZooError
from zoo.evaluation.tasks import Suite

_BOOTSTRAP = 1000
"""Draws for the standard errors that have no formula."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one question gave."""

    task: str
    document: int
    answer: Any
    """The option that was chosen, by its index, or the text that was taken as the answer; None where there is none."""
    metrics: Mapping[str, float]
    raw: Mapping[str, Any]
    """The harness' own record of it."""


@dataclass(frozen=True)
class TaskScore:
    """The score of one task of a suite."""

    task: str
    samples: int
    metrics: Mapping[str, float]
    """Metric → value, with ``<metric>_stderr`` beside it where there is one."""


@dataclass(frozen=True)
class Outcome:
    """The score of a suite."""

    metrics: dict[str, float]
    tasks: tuple[TaskScore, ...]
    samples: tuple[Sample, ...]
    data_hash: str
    prompt_hash: str


def run_suite(model: Any, suite: Suite, *, limit: int | None, seed: int, chat: bool) -> Outcome:
    """Score a suite with a model of the harness.

    Args:
        model: an ``lm_eval.api.model.LM``.
        chat: write prompts through the model's chat template.

    Raises:
        ZooError: the harness stumbles; its reason in one line.
    """
    import numpy as np
    from lm_eval.evaluator import evaluate

    random.seed(seed)
    np.random.seed(seed % 2**32)  # the harness draws from it
    try:
        with contextlib.redirect_stdout(sys.stderr):
            results: Any = evaluate(
                model, {"tasks": suite.tasks}, limit=limit, bootstrap_iters=_BOOTSTRAP, apply_chat_template=chat,
                fewshot_as_multiturn=chat,
            )  # fmt: skip
    except (ZooError, KeyboardInterrupt):
        raise
    except (ValueError, AssertionError, KeyError, TypeError) as error:
        raise ZooError(f"task {suite.name}: the harness failed: {' '.join(str(error).split())[:300]}") from error
    samples = [sample for task in suite.tasks for sample in _samples(task, results["samples"][task])]
    tasks = tuple(_score(task, results["results"][task]) for task in suite.tasks)
    metrics = dict(tasks[0].metrics) if len(tasks) == 1 else _pooled(tasks, samples)
    docs = [sample.raw for sample in samples]
    return Outcome(
        metrics=metrics,
        tasks=tasks,
        samples=tuple(samples),
        data_hash=digest([[document["doc_hash"], document["target_hash"]] for document in docs]),
        prompt_hash=digest([document["prompt_hash"] for document in docs]),
    )


def _score(task: str, results: Mapping[str, Any]) -> TaskScore:
    metrics = {
        _metric_name(name): float(value)
        for name, value in results.items()
        if "," in name and isinstance(value, int | float) and math.isfinite(value)
    }
    return TaskScore(task, int(results.get("sample_len", 0)), metrics)


def _metric_name(name: str) -> str:
    """Drop the harness' word for no filter: ``acc,none`` → ``acc``; ``acc_stderr,x`` → ``acc,x_stderr``."""
    metric, _, kind = name.partition(",")
    error = "_stderr" if metric.endswith("_stderr") else ""
    metric = metric.removesuffix("_stderr")
    return f"{metric}{error}" if kind == "none" else f"{metric},{kind}{error}"


def _samples(task: str, records: Sequence[Mapping[str, Any]]) -> list[Sample]:
    """Join the records of a document, of which there is one a filter."""
    by_document: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        by_document[int(record["doc_id"])].append(record)
    made = []
    for document, several in sorted(by_document.items()):
        metrics = {}
        for record in several:
            for name in record["metrics"]:
                value = record[name]
                if isinstance(value, bool | int | float) or hasattr(value, "item"):
                    metrics[_metric_name(f"{name},{record['filter']}")] = float(value)
                elif name == "bits_per_byte" and isinstance(value, tuple):
                    metrics[name] = -float(value[0]) / float(value[1]) / math.log(2)
        made.append(Sample(task, document, _answer(several[-1]), metrics, several[0]))
    return made


def _answer(record: Mapping[str, Any]) -> Any:
    """Find what a model answered: the likeliest option, or what the filter took from its text."""
    answers = record["filtered_resps"]
    if all(isinstance(answer, list | tuple) and len(answer) == 2 for answer in answers):
        logprobs = [float(answer[0]) for answer in answers]
        return bool(answers[0][1]) if len(logprobs) == 1 else logprobs.index(max(logprobs))
    if all(isinstance(answer, str) for answer in answers):
        return answers[0] if len(answers) == 1 else list(answers)
    return None


def _pooled(tasks: Sequence[TaskScore], samples: Sequence[Sample]) -> dict[str, float]:
    """Average over all samples of a suite the metrics that are averages in each of its tasks."""
    pooled: dict[str, float] = {}
    for metric in [name for name in tasks[0].metrics if not name.endswith("_stderr")]:
        by_task: dict[str, list[float]] = defaultdict(list)
        for sample in samples:
            if metric in sample.metrics:
                by_task[sample.task].append(sample.metrics[metric])
        averages = all(
            metric in task.metrics
            and len(by_task[task.task]) == task.samples
            and math.isclose(math.fsum(by_task[task.task]) / task.samples, task.metrics[metric], abs_tol=1e-9)
            for task in tasks
        )
        if averages:
            values = [value for several in by_task.values() for value in several]
            pooled[metric] = math.fsum(values) / len(values)
            error = standard_error(values)
            if error is not None:
                pooled[f"{metric}_stderr"] = error
    return pooled


def standard_error(values: Sequence[float]) -> float | None:
    """Give the standard error of a mean: sample standard deviation over the root of the count; None for one value."""
    count = len(values)
    if count < 2:
        return None
    mean = math.fsum(values) / count
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count)
