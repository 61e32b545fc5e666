"""The same things as on the command line, one call each from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError
from zoo.package.store import output_folder
from zoo.plugins import host

if TYPE_CHECKING:
    from zoo.declarations.plan import Plan
    from zoo.engine import Engine
    from zoo.package import Package
    from zoo.stages.bench import Bench
    from zoo.stages.evaluate import Evaluation


def build(
    model: str | Path,
    precision: str = "int8",
    *,
    output: str | Path | None = None,
    weights: str | Path | None = None,
    revision: str | None = None,
    quantizer: str | None = None,
    quantizer_options: Mapping[str, Any] | None = None,
    calibration: str | Path | None = None,
    samples: int | None = None,
    sequence_length: int | None = None,
    seed: int = 0,
    mixed: str | None = None,
    mixed_budget: str | None = None,
    data: str | Path | None = None,
    device: str = "cpu",
    allow_nonfinite: bool = False,
    target: str = "ort",
    target_options: Mapping[str, Any] | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Callable[[Any], None] | None = None,
) -> Package:
    """Build a package, as ``zoo build`` does.

    Args:
        model: a declared model, a checkpoint folder or a hub id.
        precision: ``fp32``, ``fp16``, ``int8`` or ``int4``.
        output: the package folder to make; by default one under ``$ZOO_HOME/packages``.
        weights: where a declared model's weights are: a folder or another hub id.
        calibration: for a quantizer that needs it: a dataset, or a file.
        samples: how many samples of it; ``sequence_length`` tokens each, drawn by ``seed``.
        mixed: ``auto`` measures what each weight loses and gives more bits to those that lose most, within
            ``mixed_budget``: bits per weight (``5.2``), or a percentage more than without (``10%``).
        data: a folder that holds the dataset's files already.
        device: where calibration computes, ``cpu`` or ``cuda``.
        allow_nonfinite: keep NaN and infinite values in weights that stay floats.

    Raises:
        ZooError: what is wrong, in one line.
    """
    from dataclasses import replace

    from zoo.stages.calibrate import calibrated
    from zoo.stages.mixed import mixed as choose_mixed
    from zoo.stages.resolve import resolve

    registry = host().registry
    request = _request(model, precision, weights, revision, quantizer, quantizer_options, target, target_options)
    request = replace(
        request,
        allow_nonfinite=allow_nonfinite,
        calibration=None if calibration is None else str(calibration),
        samples=samples,
        sequence_length=sequence_length,
        seed=seed,
        mixed=mixed,
        mixed_budget=mixed_budget,
    )
    folder_of_data = Path(data) if data is not None else None
    resolved, tokens = calibrated(registry, request, resolve(registry, request), data=folder_of_data)
    resolved, _ = choose_mixed(registry, request, resolved, tokens, device=device)
    folder = Path(output) if output is not None else output_folder(resolved.recipe)
    if not registry.target(target).needs_weights:
        from zoo.stages.documents import write_documents

        return write_documents(resolved, folder, registry, force=force).package
    from zoo.stages.build import build as build_package

    assert resolved.checkpoint is not None  # the target needs weights, so they were opened
    return build_package(
        resolved.recipe,
        resolved.checkpoint,
        folder,
        registry,
        force=force,
        threads=threads,
        progress=progress,
        calibration=tokens,
        device=device,
    )


def plan(
    model: str | Path,
    precision: str = "int8",
    *,
    output: str | Path | None = None,
    weights: str | Path | None = None,
    revision: str | None = None,
    quantizer: str | None = None,
    quantizer_options: Mapping[str, Any] | None = None,
    target: str = "ort",
    target_options: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan a build from headers alone, as ``zoo build --dry-run`` does."""
    from zoo.stages.plan import plan as make_plan
    from zoo.stages.resolve import resolve

    registry = host().registry
    request = _request(model, precision, weights, revision, quantizer, quantizer_options, target, target_options)
    resolved = resolve(registry, request, headers_only=True)
    folder = Path(output) if output is not None else output_folder(resolved.recipe)
    if resolved.checkpoint is None:
        raise UsageError(f"target {target!r} reads no weights, so there is nothing to plan")
    missing = getattr(resolved.checkpoint, "download_bytes", 0)
    return make_plan(resolved.recipe, resolved.checkpoint, registry, folder, download_bytes=missing)


def open_package(model: str | Path, precision: str | None = None) -> Engine:
    """Open a package, or the built package of a model, ready to generate.

    Args:
        model: a package folder, or a model of which a package is in the store.
        precision: which package, where several are built.
    """
    from zoo.engine import Engine
    from zoo.stages.subject import find_package

    return Engine.open(find_package(host().registry, str(model), precision))


def benchmark(
    model: str | Path | None = None,
    precision: str | None = None,
    *,
    url: str | None = None,
    served_model: str | None = None,
    api_key: str | None = None,
    tokenizer: str | Path | None = None,
    retries: int = 0,
    timeout: float = 300.0,
    input_len: int | None = None,
    output_len: int | None = None,
    concurrency: int | None = None,
    prompts: int | None = None,
    matrix: bool = False,
    dataset: str | None = None,
    data: str | Path | None = None,
    request_rate: float | None = None,
    warmup: int = 1,
    rounds: int = 1,
    seed: int = 0,
    progress: Callable[[Any], None] | None = None,
) -> Bench:
    """Measure how fast a package or a server answers, as ``zoo bench`` does.

    Args:
        model: a package folder, or a model of which a package is in the store.
        url: an OpenAI-compatible server instead, and ``served_model`` its name for the model.
        tokenizer: of the served model: a folder, a package or a model.
        retries: how often a request that the server turns away is sent again.
        timeout: seconds that the server may send nothing.
        input_len: tokens of each prompt; ``output_len`` of each answer.
        concurrency: requests that run at once, of ``prompts`` in a round.
        matrix: all workloads of the matrix instead.
        dataset: prompts from a declared dataset of conversations; ``data`` from a file, or its folder.
        request_rate: requests a second; without it, full load.
        progress: told now and then how far it is.

    Returns:
        The figures, ``rows`` one a workload, and the report that keeps them.

    Raises:
        ZooError: what is wrong, in one line.
    """
    from zoo.stages.bench import Ask, Server, bench_package, bench_server

    ask = Ask(
        input_len=input_len,
        output_len=output_len,
        concurrency=concurrency,
        prompts=prompts,
        matrix=matrix,
        dataset=dataset,
        data=None if data is None else Path(data),
        request_rate=request_rate,
        warmup=warmup,
        rounds=rounds,
        seed=seed,
    )
    if (url is None) == (model is None):
        raise UsageError("measure either a package or the server at a url")
    if url is not None:
        named = None if tokenizer is None else str(tokenizer)
        server = Server(url, served_model, api_key, retries, timeout, named)
        return bench_server(host().registry, server, ask, progress=progress)
    return bench_package(host().registry, str(model), precision, ask, progress=progress)


def evaluate(
    model: str | Path,
    tasks: str | Sequence[str],
    precision: str | None = None,
    *,
    data: str | Path | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
    seed: int = 0,
    scoring: str = "auto",
    against: str | Path | None = None,
    weights: str | Path | None = None,
    workers: int | str | None = None,
    log_samples: bool = False,
    progress: Callable[[Any], None] | None = None,
) -> Evaluation:
    """Score a package on tasks, as ``zoo eval`` does.

    Args:
        model: a package folder, or a model of which a package is in the store.
        tasks: one name or several.
        data: the folder, archive or file that tasks read.
        limit: only so many questions of each task.
        scoring: ``likelihood`` or ``generation``; ``auto`` is what the model was made for.
        against: another package, or ``hf``: transformers over ``weights``.
        workers: processes, or ``ray://…``.

    Returns:
        The reports, one a task, and the comparisons.

    Raises:
        ZooError: what is wrong, in one line.
    """
    from zoo.stages.evaluate import Request
    from zoo.stages.evaluate import evaluate as run

    request = Request(
        model=str(model),
        tasks=[tasks] if isinstance(tasks, str) else tasks,
        precision=precision,
        data=None if data is None else Path(data),
        limit=limit,
        num_fewshot=num_fewshot,
        seed=seed,
        scoring=scoring,
        against=None if against is None else str(against),
        weights=None if weights is None else str(weights),
        workers=None if workers is None else str(workers),
        log_samples=log_samples,
    )
    return run(host().registry, request, progress=progress)


def _request(
    model: str | Path,
    precision: str,
    weights: str | Path | None,
    revision: str | None,
    quantizer: str | None,
    quantizer_options: Mapping[str, Any] | None,
    target: str,
    target_options: Mapping[str, Any] | None,
) -> Any:
    from zoo.stages.resolve import Request

    return Request(
        model=str(model),
        precision=precision,
        weights=None if weights is None else str(weights),
        revision=revision,
        quantizer=quantizer,
        quantizer_options=quantizer_options or {},
        target=target,
        target_options=target_options or {},
    )
