"""A package, measured in this process through the engine's scheduler."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.bench.measure import Progress, Skipped, Workload, measure
from zoo.bench.prompts import id_maker
from zoo.registry import Registry
from zoo.stages.bench.ask import Ask
from zoo.stages.bench.loop import run
from zoo.stages.bench.result import Bench, require_rows
from zoo.stages.bench.workloads import workload_of_conversations, workloads_of_lengths

if TYPE_CHECKING:
    from zoo.bench.load import Client

RATE_SLOTS = 8
"""Requests that the engine runs at once where only their rate is given; the others wait."""
_LIBRARIES = ("onnxruntime", "numpy", "tokenizers")


def bench_package(
    registry: Registry,
    model: str,
    precision: str | None = None,
    ask: Ask | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> Bench:
    """Measure a package and keep a report.

    Args:
        model: a package folder, or a model of which a package is in the store.
        precision: which package, where several are built.
        progress: told now and then.

    Raises:
        UsageError: an unknown name.
        ZooError: there is no package, nothing fits its context, or no request was completed.
    """
    from zoo.bench.engine_client import EngineClient
    from zoo.engine.rowwise import recorded
    from zoo.reports import keep_report, make_report, require_place
    from zoo.stages.opening import open_engine
    from zoo.stages.subject import find_package

    ask = ask or Ask()
    engine = open_engine(registry, find_package(registry, model, precision))
    manifest = engine.package.manifest
    require_place(manifest.recipe_hash)
    tokens = manifest.recipe.tokens
    if engine.tokenizer is not None:
        lead, special = engine.encode(""), engine.tokenizer.special_ids
    else:
        lead, special = [] if tokens.bos_token_id is None else [tokens.bos_token_id], frozenset()
    skipped: list[Skipped] = []
    if ask.varied:

        def encode(text: str) -> list[int]:
            return engine.encode(text)[len(lead) :]

        one, settings = workload_of_conversations(registry, ask, encode, engine.context_length)
        workloads = [one]
    else:
        make = id_maker(engine.vocab_size, lead, special | {*tokens.eos_token_id})
        workloads, skipped, settings = workloads_of_lengths(ask, make, engine.context_length)

    @asynccontextmanager
    async def client(workload: Workload) -> AsyncIterator[Client]:
        tokens = (workload.input_len or 0) + (workload.output_len or 0)
        opened = EngineClient(engine, workload.concurrency or RATE_SLOTS, tokens)
        try:
            yield opened
        finally:
            opened.close()

    rows, failed = run(measure(workloads, client, rounds=ask.rounds, warmup=ask.warmup, progress=progress))
    require_rows(rows, failed)
    settings |= {"through": "engine", "prefix_cache": False, "threads": engine.session.threads}
    settings |= {"long_prompts": "row-wise" if engine.session.rowwise else "as others"}
    if ask.places is None:
        settings |= {"slots": RATE_SLOTS}
    trial = recorded(engine.package)
    bench = Bench(
        engine.package.path.name, settings, rows, [*skipped, *failed], engine.load_seconds, peak_rss_bytes(),
        str(trial) if trial else None,
    )  # fmt: skip
    report = make_report("bench", manifest, settings, bench.measured, libraries=_LIBRARIES)
    return replace(bench, report=report, path=keep_report(report))


def peak_rss_bytes() -> int | None:
    """The most memory that this process has had since it began; None where the system does not say."""
    try:
        import resource
    except ImportError:  # not on this platform
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # getrusage(2): kilobytes, on macOS bytes
