"""The same things as on the command line, one call each from Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from zoo.errors import UsageError
from zoo.plugins import host

if TYPE_CHECKING:
    from zoo.contracts import Engine
    from zoo.declarations.memory import KV
    from zoo.declarations.plan import Plan
    from zoo.package import Package
    from zoo.stages.bench.result import Bench
    from zoo.stages.evaluate.stage import Evaluation
    from zoo.stages.opening import Preparing
    from zoo.stages.pipeline import Pinned
    from zoo.stages.prepare import Prepared
    from zoo.stages.texts import TextBench


class Choices(TypedDict, total=False):
    """What decides a package, beside the model and the precision; ``zoo.stages.request.Request`` describes each."""

    weights: str | Path | None
    revision: str | None
    transforms: Sequence[tuple[str, Mapping[str, Any]]]
    quantizer: str | None
    quantizer_options: Mapping[str, Any] | None
    calibration: str | Path | None
    samples: int | None
    sequence_length: int | None
    seed: int
    mixed: str | None
    mixed_budget: str | None
    smoothing: str
    allow_nonfinite: bool
    adapters: Sequence[str | Path]
    adapter_scales: Sequence[float]
    no_adapter: bool
    allow_unused: Sequence[str]
    context: int | None
    target: str
    target_options: Mapping[str, Any] | None


def build(
    model: str | Path,
    precision: str = "int8",
    *,
    output: str | Path | None = None,
    data: str | Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    force: bool = False,
    progress: Callable[[Any], None] | None = None,
    warn: Callable[[str], None] | None = None,
    **choices: Unpack[Choices],
) -> Package:
    """Build a package, as ``zoo build`` does.

    Args:
        model: a declared model, a checkpoint folder or a hub id.
        precision: ``fp32``, ``fp16``, ``int8`` or ``int4``.
        output: the package folder to make; by default one under ``$ZOO_HOME/packages``.
        data: a folder that holds the calibration dataset's files already.
        device: where calibration computes, ``cpu`` or ``cuda``.
        threads: workers; by default one a core.
        force: replace a package that stands there.
        progress: told now and then how far it is.
        warn: called with each line worth showing; by default they are logged.
        choices: the fields of ``Choices``.

    Raises:
        ZooError: what is wrong, in one line.
    """
    from zoo.stages import pipeline

    registry = host().registry
    pinned = _pin(model, precision, choices, data, device=device, warn=warn)
    folder = None if output is None else Path(output)
    return pipeline.build(
        registry, pinned, folder, device=device, threads=threads, force=force, progress=progress, warn=warn
    ).package


def plan(
    model: str | Path,
    precision: str = "int8",
    *,
    output: str | Path | None = None,
    data: str | Path | None = None,
    threads: int | None = None,
    **choices: Unpack[Choices],
) -> Plan:
    """Plan a build from headers alone, as ``zoo build --dry-run`` does; the arguments are those of ``build``."""
    from zoo.stages import pipeline

    pinned = _pin(model, precision, choices, data, planning=True)
    return pipeline.plan(host().registry, pinned, None if output is None else Path(output), threads=threads)


def open_package(
    model: str | os.PathLike[str],
    precision: str | None = None,
    *,
    engine: str | None = None,
    threads: int | None = None,
    draft: str | os.PathLike[str] | None = None,
    kv: KV = "auto",
    prepare: bool = False,
) -> Engine:
    """Open a package, or the built package of a model, ready to generate.

    Nothing is written and no process is started unless ``prepare`` asks for it.

    Args:
        model: a package folder, or a model of which a package is in the store.
        precision: which package, where several are built.
        engine: what opens it; by default the engine of the target that it was built for.
        threads: workers; by default what the engine finds best, here the physical cores that this process may use.
        draft: a smaller model of the same tokenizer, or its package, that guesses ahead; ``auto`` for what the
            declaration names. Answers stay what they are.
        kv: ``int8`` keeps keys and values in 8 bits, ``fp32`` and ``auto`` as they are.
        prepare: prepare its weights first, as ``zoo prepare`` does; they are kept under ``$ZOO_HOME/prepacked``.
    """
    from zoo.stages.opening import find_draft, open_engine
    from zoo.stages.subject import find_package

    registry = host().registry
    folder = find_package(registry, os.fspath(model), precision)
    smaller = None if draft is None else find_draft(registry, folder, os.fspath(draft))
    preparing: Preparing = "now" if prepare else "never"
    return open_engine(registry, folder, name=engine, threads=threads, draft=smaller, kv=kv, preparing=preparing)


def prepare(
    model: str | os.PathLike[str],
    precision: str | None = None,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> Prepared:
    """Prepare a package's weights for this machine's kernels, as ``zoo prepare`` does.

    Args:
        model: a package folder, or a model of which a package is in the store.
        precision: which package, where several are built.
        progress: called with what is done next, and how many of how many parts are done.

    Raises:
        ZooError: they cannot be prepared, in one line.
    """
    from zoo.package.folder import open_package as read_package
    from zoo.stages.prepare import prepare as prepare_weights
    from zoo.stages.subject import find_package

    return prepare_weights(read_package(find_package(host().registry, os.fspath(model), precision)), progress)


def benchmark(
    model: str | os.PathLike[str] | None = None,
    precision: str | None = None,
    *,
    url: str | None = None,
    served_model: str | None = None,
    api_key: str | None = None,
    tokenizer: str | Path | None = None,
    retries: int = 0,
    timeout: float = 300.0,
    engine: str | None = None,
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
) -> Bench | TextBench:
    """Measure how fast a package or a server answers, as ``zoo bench`` does.

    Args:
        model: a package folder, or a model of which a package is in the store.
        url: an OpenAI-compatible server instead, and ``served_model`` its name for the model.
        tokenizer: of the served model: a folder, a package or a model.
        retries: how often a request that the server turns away is sent again.
        timeout: seconds that the server may send nothing.
        engine: what opens the package; by default the engine of its target.
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
    from zoo.stages.bench.ask import Ask, Server
    from zoo.stages.bench.package import bench_package
    from zoo.stages.bench.server import bench_server

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
    if url is not None and model is None:
        named = None if tokenizer is None else str(tokenizer)
        server = Server(url, served_model, api_key, retries, timeout, named)
        return bench_server(host().registry, server, ask, progress=progress)
    if model is None or url is not None:
        raise UsageError("measure either a package or the server at a url")
    return bench_package(host().registry, os.fspath(model), precision, ask, engine=engine, progress=progress)


def evaluate(
    model: str | os.PathLike[str],
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
    engine: str | None = None,
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
        engine: what opens the package; by default the engine of its target.

    Returns:
        The reports, one a task, and the comparisons.

    Raises:
        ZooError: what is wrong, in one line.
    """
    from zoo.stages.evaluate.request import EvaluationRequest
    from zoo.stages.evaluate.stage import evaluate as run

    request = EvaluationRequest(
        model=os.fspath(model),
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
        engine=engine,
    )
    return run(host().registry, request, progress=progress)


def _pin(
    model: str | Path,
    precision: str,
    choices: Choices,
    data: str | Path | None,
    *,
    device: str = "cpu",
    planning: bool = False,
    warn: Callable[[str], None] | None = None,
) -> Pinned:
    """Decide everything that a call leaves open."""
    from zoo.stages.pipeline import pin
    from zoo.stages.request import Request

    if unknown := [name for name in choices if name not in Choices.__annotations__]:
        raise TypeError(f"unexpected argument {unknown[0]!r}; there are {', '.join(Choices.__annotations__)}")
    given: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value for name, value in choices.items() if value is not None
    }
    folder = None if data is None else Path(data)
    request = Request(str(model), precision, **given)
    return pin(host().registry, request, data=folder, device=device, planning=planning, warn=warn)
