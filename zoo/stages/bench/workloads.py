"""Requests → workloads, whoever they are sent to; what does not fit the context is named and left out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zoo.bench.measure import Skipped, Workload
from zoo.bench.prompts import Make, fixed, varied
from zoo.bench.sharegpt import draw
from zoo.bench.workload import Prompt
from zoo.datasets.texts import conversation, read_rows
from zoo.errors import UsageError, ZooError
from zoo.registry import Registry
from zoo.stages.bench.ask import Ask

CONVERSATIONS = "sharegpt"
"""The dataset format, and the declared dataset, that prompts of varied length come from."""


def workloads_of_lengths(
    ask: Ask, make: Make, context: int | None
) -> tuple[list[Workload], list[Skipped], dict[str, Any]]:
    """Make the workloads of fixed lengths.

    Args:
        make: makes a prompt of so many tokens.
        context: tokens that a prompt and its answer may have together; None where nobody says.

    Returns:
        Them, those that do not fit, and the settings that say what they were.

    Raises:
        ZooError: none fits.
    """
    cells = ask.cells()
    fitting = [cell for cell in cells if cell.fits(context)]
    if not fitting:
        least = min(cells, key=lambda cell: cell.input_len + cell.output_len)
        if ask.matrix:
            raise ZooError(f"no workload of the matrix fits the context of {context}; the smallest is {least.label}")
        raise ZooError(
            f"prompts of {least.input_len} tokens and answers of {least.output_len} do not fit the context of "
            f"{context}; ask for less with --input-len and --output-len"
        )
    reason = f"does not fit the context of {context}"
    skipped = [Skipped(label=cell.label, reason=reason) for cell in cells if not cell.fits(context)]
    workloads = [fixed(cell, make, seed=ask.seed, request_rate=ask.request_rate) for cell in fitting]
    settings = {"workload": "matrix" if ask.matrix else "fixed", **_common(ask)}
    return workloads, skipped, settings | {"cells": [cell.model_dump(mode="json") for cell in cells]}


def workload_of_conversations(
    registry: Registry, ask: Ask, encode: Callable[[str], Sequence[int]], context: int | None
) -> tuple[Workload, dict[str, Any]]:
    """Draw prompts from conversations.

    Args:
        encode: text to token ids, without what a tokenizer puts before a text.

    Raises:
        UsageError: a dataset that nobody declares, or that holds no conversations.
        ZooError: it is not on this machine, is damaged, or holds too few.
    """
    name, files = _files(registry, ask)
    drawn = draw(
        (conversation(row) for row in read_rows(files, CONVERSATIONS)),
        encode,
        prompts=ask.count * ask.rounds + ask.warmup,
        seed=ask.seed,
        context=context,
        output_len=ask.output_len,
    )
    workload = varied(
        name,
        drawn.prompts,
        rounds=ask.rounds,
        warmup=ask.warmup,
        concurrency=ask.places,
        seed=ask.seed,
        request_rate=ask.request_rate,
    )
    settings = {
        "workload": "conversations",
        "dataset": name,
        "prompts_sha256": _digest(drawn.prompts),
        "concurrency": ask.places,
        "prompts": ask.count,
        "output_len": ask.output_len,
        "over_context": drawn.over_context,
        **_common(ask),
    }
    return workload, settings


def _common(ask: Ask) -> dict[str, Any]:
    return {
        "request_rate": ask.request_rate,
        "warmup": ask.warmup,
        "rounds": ask.rounds,
        "seed": ask.seed,
        "sampling": "greedy",
    }


def _files(registry: Registry, ask: Ask) -> tuple[str, list[Path]]:
    """Find the conversations: a file that was given, or the files of a declared dataset."""
    from zoo.sources.dataset_files import bring_dataset, find_in_folder, locate_dataset

    dataset = registry.dataset(ask.dataset) if ask.dataset is not None else None
    if dataset is not None and dataset.format != CONVERSATIONS:
        known = sorted(other.name for other in registry.datasets.values() if other.format == CONVERSATIONS)
        names = ", ".join(known) or "none is declared"
        raise UsageError(f"dataset {dataset.name!r} has no conversations; datasets that have some: {names}")
    if ask.data is not None and not ask.data.is_dir():
        return (dataset.name if dataset is not None else ask.data.name), [ask.data]
    dataset = dataset or registry.dataset(CONVERSATIONS)
    if ask.data is not None:
        paths = find_in_folder(dataset, ask.data)
    else:
        paths = locate_dataset(dataset) or bring_dataset(dataset)[0]
    return dataset.name, list(paths.values())


def _digest(prompts: Sequence[Prompt]) -> str:
    """Name drawn prompts: SHA-256 of their contents and lengths in order."""
    plain = [
        [prompt.content if isinstance(prompt.content, str) else list(prompt.content), prompt.output_len]
        for prompt in prompts
    ]
    return hashlib.sha256(json.dumps(plain, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()
