"""A package, measured in this process through the engine's scheduler."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

from zoo.bench.engine_client import EngineClient
from zoo.bench.load import Client
from zoo.bench.measure import Progress, Skipped, Workload, measure
from zoo.bench.prompts import id_maker
from zoo.bench.single_client import SingleClient
from zoo.contracts import OWN_ENGINE, Batching, Engine, require
from zoo.embedding import EncoderEngine
from zoo.registry import Registry
from zoo.reports import keep_report, make_report, require_place
from zoo.stages.bench.ask import Ask
from zoo.stages.bench.loop import run
from zoo.stages.bench.result import Bench, require_rows
from zoo.stages.bench.workloads import workload_of_conversations, workloads_of_lengths
from zoo.stages.opening import open_engine
from zoo.stages.subject import find_package
from zoo.stages.texts import TextBench, bench_texts

RATE_SLOTS = 8
"""Requests that the engine runs at once where only their rate is given; the others wait."""
_LIBRARIES = ("onnxruntime", "numpy", "tokenizers")


def bench_package(
    registry: Registry,
    model: str,
    precision: str | None = None,
    ask: Ask | None = None,
    *,
    engine: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Bench | TextBench:
    """Measure a package and keep a report.

    Args:
        model: a package folder, or a model of which a package is in the store.
        precision: which package, where several are built.
        engine: what opens the package; by default the engine of its target.
        progress: told now and then.

    Raises:
        UsageError: an unknown name.
        ZooError: there is no package, nothing fits its context, or no request was completed.
    """
    ask = ask or Ask()
    opened = open_engine(registry, find_package(registry, model, precision), name=engine)
    if isinstance(opened, EncoderEngine):
        return bench_texts(opened, ask)
    manifest = opened.package.manifest
    require_place(manifest.recipe_hash)
    tokens = manifest.recipe.tokens
    if "text" in opened.abilities:
        lead = opened.encode("")
    else:
        lead = [] if tokens.bos_token_id is None else [tokens.bos_token_id]
    skipped: list[Skipped] = []
    if ask.varied:

        def encode(text: str) -> list[int]:
            return opened.encode(text)[len(lead) :]

        one, settings = workload_of_conversations(registry, ask, encode, opened.context_length)
        workloads = [one]
    else:
        make = id_maker(opened.vocab_size, lead, opened.special_ids | {*tokens.eos_token_id})
        workloads, skipped, settings = workloads_of_lengths(ask, make, opened.context_length)

    @asynccontextmanager
    async def connect(workload: Workload) -> AsyncIterator[Client]:
        tokens = (workload.input_len or 0) + (workload.output_len or 0)
        client = _client(opened, workload.concurrency or RATE_SLOTS, tokens)
        try:
            yield client
        finally:
            client.close()

    rows, failed = run(measure(workloads, connect, rounds=ask.rounds, warmup=ask.warmup, progress=progress))
    require_rows(rows, failed)
    settings |= {"through": "engine" if opened.name == OWN_ENGINE else opened.name, "prefix_cache": False}
    settings |= opened.settings()
    if ask.places is None:
        settings |= {"slots": RATE_SLOTS}
    peak = peak_rss_bytes() if opened.name == OWN_ENGINE else None  # another program's is not ours to tell
    bench = Bench(opened.package.path.name, settings, rows, [*skipped, *failed], opened.load_seconds, peak)
    report = make_report("bench", opened.package, settings, bench.measured, libraries=_LIBRARIES)
    return replace(bench, report=report, path=keep_report(report))


def _client(engine: Engine, slots: int, tokens: int) -> EngineClient | SingleClient:
    """Open what sends requests: so many at once, where the engine can."""
    if slots > 1:
        require(engine, "batches", f"{slots} requests at once")
    if "batches" not in engine.abilities:
        return SingleClient(engine)
    return EngineClient(cast("Batching", engine), slots, tokens)


def peak_rss_bytes() -> int | None:
    """The most memory that this process has had since it began; None where the system does not say."""
    try:
        import resource
    except ImportError:  # not on this platform
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # getrusage(2): kilobytes, on macOS bytes
