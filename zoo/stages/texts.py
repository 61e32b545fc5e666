"""Verify, evaluate and measure packages that embed or rank texts; the reports are those of any model."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from zoo.declarations.report import Report
from zoo.embedding import EncoderEngine
from zoo.embedding.tokens import TextTokens
from zoo.errors import UsageError, ZooError
from zoo.evaluation.texts import TASKS, score_task
from zoo.package.folder import Package
from zoo.registry import Registry
from zoo.reports import keep_report, make_report, require_place
from zoo.stages.bench.ask import Ask
from zoo.stages.evaluate.request import EvaluationRequest
from zoo.stages.opening import open_engine
from zoo.verify.compare import Progress
from zoo.verify.embeddings import EncoderVerdict, compare_encoder, reference_of
from zoo.verify.samples import make_samples

if TYPE_CHECKING:
    from zoo.stages.evaluate.stage import Evaluation

_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "onnx", "onnxruntime")
LENGTHS, BATCHES = (16, 512), (1, 32)
"""What is measured where nothing else is asked for: tokens of a text, texts at once."""
SECONDS = 2.0
"""How long one workload is measured, at least."""


@dataclass(frozen=True)
class EncoderVerification:
    """What a verification found, and the report that keeps it."""

    verdict: EncoderVerdict
    report: Report
    path: Path


def verify_encoder(
    registry: Registry, package: Package, checkpoint: Any, own: bool | None, *, quick: bool, progress: Progress | None
) -> EncoderVerification:
    """Compare an encoder's package with the original weights, and keep a report.

    Args:
        checkpoint: the opened original weights.
        own: whether they are those that the model declares.

    Raises:
        ZooError: the reference cannot be run, or the package cannot be opened.
    """
    recipe = package.manifest.recipe
    engine = cast("EncoderEngine", open_engine(registry, package.path))
    longest = engine.context_length
    samples = make_samples(package.path, recipe.architecture.vocab_size, longest, quick=quick)
    name, reference = reference_of(checkpoint, registry.architecture(recipe.architecture.type), recipe.architecture)
    texts = [(sample.name, sample.ids.tolist()) for sample in samples]
    verdict = compare_encoder(engine, reference, texts, recipe.precision, progress)
    settings = {"quick": quick, "sequences": verdict.texts, "reference": name}
    measured = verdict.model_dump(mode="json")
    report = make_report(
        "verify", package, settings, measured, passed=verdict.passed, own_weights=own, libraries=_LIBRARIES
    )
    return EncoderVerification(verdict, report, keep_report(report))


def evaluate_texts(
    registry: Registry, package: Package, request: EvaluationRequest, progress: Any = None
) -> Evaluation:
    """Score a package that embeds or ranks on local files, a report for each task.

    Raises:
        UsageError: an unknown task, or no files were named.
        ZooError: a file is missing or not what it must be.
    """
    from zoo.stages.evaluate.stage import Evaluation

    for task in request.tasks:
        if task not in TASKS:
            raise UsageError(f"{package.name} embeds or ranks texts: its tasks are {', '.join(TASKS)}, not {task!r}")
    if request.data is None:
        raise UsageError("name the task's file or folder with --data")
    if not request.data.exists():
        raise UsageError(f"--data {request.data}: no such file or folder")
    require_place(package.manifest.recipe_hash)
    engine = open_engine(registry, package.path, name=request.engine)
    done = Evaluation()
    for task in request.tasks:
        began = time.perf_counter()
        measured = score_task(task, engine, request.data, request.limit, lambda *_: None)
        measured["seconds"] = round(time.perf_counter() - began, 3)
        settings = {
            "task": task, "scoring": "score" if task == "reranking" else "cosine", "num_fewshot": 0,
            "limit": request.limit, "data": request.data.name,
        }  # fmt: skip
        report = make_report("eval", package, settings, measured, libraries=("numpy", "tokenizers", "onnxruntime"))
        done.reports.append(report)
        done.paths.append(keep_report(report))
        if measured["cut_short"]:
            done.notes.append(f"{task}: {measured['cut_short']} texts were cut to what the model takes")
    return done


@dataclass(frozen=True)
class TextBench:
    """What was measured of a package that embeds or ranks."""

    subject: str
    settings: dict[str, Any]
    measured: dict[str, Any]
    report: Report
    path: Path


def bench_texts(engine: EncoderEngine, ask: Ask) -> TextBench:
    """Measure how many texts, and tokens, a second a package computes, and keep a report.

    Args:
        ask: ``input_len`` is the tokens of a text, ``concurrency`` how many texts are given at once.

    Raises:
        UsageError: a text is longer than the model takes.
    """
    package = engine.package
    require_place(package.manifest.recipe_hash)
    longest = engine.context_length
    lengths = [ask.input_len] if ask.input_len else [length for length in LENGTHS if length <= longest] or [longest]
    if max(lengths) > longest:
        raise UsageError(f"--input-len {max(lengths)}: {package.name} takes {longest} tokens")
    rows = [
        _measure(engine, length, batch, ask.seed)
        for length in lengths
        for batch in ([ask.concurrency] if ask.concurrency else BATCHES)
    ]
    settings = {"rounds": 1, "through": "engine", **engine.settings()}
    measured = {"load_s": engine.load_seconds, "workloads": rows}
    report = make_report("bench", package, settings, measured, libraries=("onnxruntime", "numpy", "tokenizers"))
    return TextBench(package.name, settings, measured, report, keep_report(report))


def _measure(engine: EncoderEngine, length: int, batch: int, seed: int) -> dict[str, Any]:
    """Compute batches of random texts for a while, after one that is not counted."""
    draw = np.random.default_rng(seed)
    times: list[float] = []
    compute = engine.logits if engine.labels else engine.vectors
    while len(times) < 2 or sum(times[1:]) < SECONDS:
        ids = draw.integers(0, engine.vocab_size, (batch, length))
        texts = [TextTokens(row.tolist(), [0] * length) for row in ids]
        began = time.perf_counter()
        compute(texts)
        times.append(time.perf_counter() - began)
    median = float(np.median(times[1:]))
    if not median:
        raise ZooError("nothing could be measured")
    return {
        "label": f"{batch} texts of {length} tokens", "tokens": length, "batch": batch, "runs": len(times) - 1,
        "median_ms": median * 1e3, "texts_per_s": batch / median, "tokens_per_s": batch * length / median,
    }  # fmt: skip
