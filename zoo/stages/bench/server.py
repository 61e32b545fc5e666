"""A server, measured through its completions, whoever wrote it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.bench.http_client import HttpClient
from zoo.bench.load import Client
from zoo.bench.measure import Progress, Skipped, Workload, measure
from zoo.bench.prompts import id_maker
from zoo.bench.served import meet, require_ids, text_maker
from zoo.errors import UsageError, ZooError
from zoo.registry import Registry
from zoo.stages.bench.ask import Ask, Server
from zoo.stages.bench.loop import run
from zoo.stages.bench.result import Bench, require_rows
from zoo.stages.bench.workloads import workload_of_conversations, workloads_of_lengths

if TYPE_CHECKING:
    from zoo.engine.text import Tokenizer


def bench_server(
    registry: Registry,
    server: Server,
    ask: Ask | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> Bench:
    """Measure an OpenAI-compatible server.

    Raises:
        UsageError: no address, or a model that it does not serve.
        ZooError: it does not answer, or no request was completed.
    """
    ask = ask or Ask()
    tokenizer = _tokenizer(registry, server.tokenizer) if server.tokenizer is not None else None
    if ask.varied and tokenizer is None:
        raise UsageError(
            "conversations are filtered by their tokens; name the served model's package or folder with --tokenizer"
        )
    return run(_bench_server(registry, server, ask, tokenizer, progress))


async def _bench_server(
    registry: Registry,
    server: Server,
    ask: Ask,
    tokenizer: Tokenizer | None,
    progress: Callable[[Progress], None] | None,
) -> Bench:
    client = HttpClient(server.url, server.served_model, server.api_key, retries=server.retries, timeout=server.timeout)
    try:
        return await _measure(registry, client, ask, tokenizer, progress)
    finally:
        await client.close()


async def _measure(
    registry: Registry,
    client: HttpClient,
    ask: Ask,
    tokenizer: Tokenizer | None,
    progress: Callable[[Progress], None] | None,
) -> Bench:
    context = await meet(client)
    skipped: list[Skipped] = []
    if ask.varied:
        assert tokenizer is not None  # bench_server asked for one
        counter = tokenizer
        one, settings = workload_of_conversations(
            registry, ask, lambda text: counter.encode(text, special=False), context
        )
        workloads, sized = [one], "tokenizer"
    else:
        if tokenizer is not None:
            make = id_maker(tokenizer.vocab_size, tokenizer.encode(""), tokenizer.special_ids)
            await require_ids(client, list(map(int, make(np.random.default_rng(0), 8))))
            sized = "tokenizer"
        else:
            make, counted = await text_maker(client)
            sized = "server" if counted else "words"
        workloads, skipped, settings = workloads_of_lengths(ask, make, context)

    @asynccontextmanager
    async def opened(workload: Workload) -> AsyncIterator[Client]:
        yield client

    rows, failed = await measure(workloads, opened, rounds=ask.rounds, warmup=ask.warmup, progress=progress)
    require_rows(rows, failed)
    settings |= {
        "through": "http",
        "retries": client.retries,
        "asked_for": sorted(client.extra),
        "prompts_sized_by": sized,
    }
    return Bench(client.model or client.url, settings, rows, [*skipped, *failed])


def _tokenizer(registry: Registry, text: str) -> Tokenizer:
    """Open the tokenizer of a folder, a package or a model that is built."""
    from zoo.engine.text import Tokenizer
    from zoo.stages.subject import locate_package

    path = Path(text).expanduser()
    if path.name == "tokenizer.json" and path.is_file():
        path = path.parent
    folder = path if (path / "tokenizer.json").is_file() else locate_package(registry, text)
    if not (folder / "tokenizer.json").is_file():
        raise ZooError(f"--tokenizer {text}: holds no tokenizer.json")
    return Tokenizer(folder)
