"""``zoo fetch``."""

from __future__ import annotations

from typing import Annotated

import typer

from zoo.cli.options import Json
from zoo.cli.output import echo, print_json
from zoo.cli.progress import fetch_progress
from zoo.errors import UsageError
from zoo.units import bytes_text


def fetch(
    model: Annotated[str | None, typer.Argument(help="A declared model or a hub id.")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", metavar="NAME", help="A declared dataset; may be repeated.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of the weights, instead of the declared one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Download weights and datasets: resumable, and verified."""
    from zoo.plugins import host
    from zoo.stages.fetch import fetch_dataset, fetch_weights

    if model is None and not dataset:
        raise UsageError("name what to fetch: a model, or --dataset NAME")
    if model is None and revision is not None:
        raise UsageError("--revision applies to a model's weights; name the model")
    registry = host().registry
    # An unknown name must not show only after hours of downloading the first one.
    for name in dataset or []:
        registry.dataset(name)
    weights = None
    if model is not None:
        with fetch_progress() as progress:
            weights = fetch_weights(registry, model, revision=revision, progress=progress)
        if not as_json:
            origin = f" of {weights.repository} at {weights.commit[:12]}" if weights.commit else ""
            _print(f"{weights.folder}: weights{origin}", len(weights.files), weights.bytes, weights.downloaded_bytes)
    datasets = []
    for name in dataset or []:
        with fetch_progress() as progress:
            datasets.append(fetch_dataset(registry, name, progress=progress))
        one = datasets[-1]
        if not as_json:
            _print(f"{one.files[0].name}: dataset {name}", len(one.files), one.bytes, one.downloaded_bytes)
    if as_json:
        print_json({"weights": weights, "datasets": datasets})


def _print(what: str, files: int, size: int, downloaded: int) -> None:
    came = f"{bytes_text(downloaded)} downloaded" if downloaded else "already here"
    echo(f"{what}, {files} file{'s' if files != 1 else ''}, {bytes_text(size)}, {came}")
