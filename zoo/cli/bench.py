"""``zoo bench``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.output import echo
from zoo.cli.progress import progress_bar
from zoo.errors import UsageError, ZooError

if TYPE_CHECKING:
    from zoo.bench.measure import Progress
    from zoo.stages.bench import Bench, Server

INTERRUPTED = 130


def bench(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL|PACKAGE", help="A built model or a package folder.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Measure an OpenAI-compatible server instead of a package.")
    ] = None,
    input_len: Annotated[int | None, typer.Option(metavar="N", help="Tokens of each prompt; 256 by default.")] = None,
    output_len: Annotated[
        int | None,
        typer.Option(metavar="N", help="Tokens of each answer; 128 by default, or the conversations' own."),
    ] = None,
    concurrency: Annotated[int | None, typer.Option(metavar="N", help="Concurrent requests; 1 by default.")] = None,
    prompts: Annotated[
        int | None, typer.Option(metavar="N", help="Requests a round; by default 5 times the concurrency.")
    ] = None,
    matrix: Annotated[
        bool,
        typer.Option(
            "--matrix",
            help="Input 510, 1020, 2040 × output 512, 1024, 2048 × concurrency 1, 4, 8, 16, as far as it fits.",
        ),
    ] = False,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Prompts from a declared dataset of conversations.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="A file of conversations, or the folder where the dataset's files are."),
    ] = None,
    request_rate: Annotated[
        float | None,
        typer.Option(metavar="R", help="Requests a second, at random (Poisson); without it, full load."),
    ] = None,
    warmup: Annotated[int, typer.Option(metavar="N", help="Warm-up requests before each run.")] = 1,
    rounds: Annotated[int, typer.Option(metavar="N", help="Number of rounds.")] = 1,
    seed: Annotated[int, typer.Option(metavar="S", help="Seed of prompts and arrivals.")] = 0,
    api_key: Annotated[
        str | None, typer.Option(metavar="K", envvar="ZOO_API_KEY", show_envvar=True, help="API key of the server.")
    ] = None,
    served_model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Model to measure, if the server has several.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|MODEL", help="The served model's tokenizer: exact prompts of token ids, and conversations."
        ),
    ] = None,
    retries: Annotated[
        int,
        typer.Option(
            metavar="N", help="Retries of a request that the server rejects (429, 503); 0 counts it as failed."
        ),
    ] = 0,
    timeout: Annotated[
        float, typer.Option(metavar="S", help="Seconds to wait for the server to send something.")
    ] = 300.0,
    precision: Annotated[
        str | None, typer.Option("-p", "--precision", help="Precision of the package, if several are built.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="NAME", help="Engine that opens the package; its target's own by default.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures as CSV.")] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw latency against throughput.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure how fast a package or a server answers: latencies and throughput under a stated load."""
    from zoo.cli.output import print_json
    from zoo.cli.texts import print_texts_measured
    from zoo.plugins import host
    from zoo.stages.bench import Ask, Bench, bench_package, bench_server
    from zoo.stages.texts import TextBench

    ask = Ask(
        input_len=input_len,
        output_len=output_len,
        concurrency=concurrency,
        prompts=prompts,
        matrix=matrix,
        dataset=dataset,
        data=data,
        request_rate=request_rate,
        warmup=warmup,
        rounds=rounds,
        seed=seed,
    )
    if engine is not None and url is not None:
        raise UsageError("--engine opens a package; a server has its own")
    server = _server(model, url, served_model, api_key, retries, timeout, tokenizer, precision)
    for option, path in (("--csv", csv), ("--svg", svg)):
        _require_place(option, path)
    registry = host().registry
    done: Bench | TextBench
    try:
        with _progress() as progress:
            if server is not None:
                done = bench_server(registry, server, ask, progress=progress)
            else:
                done = bench_package(registry, str(model), precision, ask, engine=engine, progress=progress)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if not isinstance(done, Bench):
        print_json(done.report) if as_json else print_texts_measured(done)
        return
    _write(done, csv, svg)
    if as_json:
        print_json(done.report or {"subject": done.subject, "settings": done.settings, "measured": done.measured})
    else:
        from zoo.cli.bench_table import print_bench

        print_bench(done)


def _server(
    model: str | None,
    url: str | None,
    served_model: str | None,
    api_key: str | None,
    retries: int,
    timeout: float,
    tokenizer: str | None,
    precision: str | None,
) -> Server | None:
    """Return the server to measure; None for a package.

    Raises:
        UsageError: neither or both are named, or options of one are given for the other.
    """
    from zoo.stages.bench import Server

    if url is not None and model is not None:
        raise UsageError(
            f"--url measures a server and {model} is a package: give one (--model names the server's model)"
        )
    if url is None and model is None:
        raise UsageError("name what to measure: a model, a package folder, or --url of a server")
    if url is not None:
        if precision is not None:
            raise UsageError("-p chooses a package; a server has its own")
        return Server(url, served_model, api_key, retries, timeout, tokenizer)
    for option, given in (("--model", served_model), ("--tokenizer", tokenizer), ("--retries", retries or None)):
        if given is not None:
            raise UsageError(f"{option} is for --url")
    return None


def _require_place(option: str, path: Path | None) -> None:
    """Reject an output file that cannot be written, before measuring."""
    import os

    if path is None:
        return
    folder = path.parent
    if path.is_dir():
        raise ZooError(f"{option} {path}: is a folder")
    if not folder.is_dir():
        raise ZooError(f"{option} {path}: there is no folder {folder}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise ZooError(f"{option} {path}: cannot be written")
    if path.exists():
        echo(f"zoo: {option} {path}: exists; it is replaced when the measurement ends", err=True)


def _write(done: Bench, csv: Path | None, svg: Path | None) -> None:
    if csv is not None:
        from zoo.bench.csv_file import csv_text

        _replace(csv, csv_text(done.rows))
    if svg is not None:
        from zoo.bench.picture import picture

        _replace(svg, picture(done.rows, done.subject))


def _replace(path: Path, content: str) -> None:
    """Write a file atomically."""
    from zoo.package.files import write_whole

    try:
        write_whole(path, content.encode(), replace=True)
    except OSError as error:
        raise ZooError(f"{path}: cannot be written: {error.strerror or error}") from None


@contextmanager
def _progress() -> Iterator[Callable[[Progress], Any] | None]:
    """Draw the progress of a measurement on a terminal's stderr."""
    with progress_bar() as draw:
        yield draw and (lambda step: draw(step.share, _line(step)))


def _line(step: Progress) -> str:
    left = f"  {step.eta:.0f} s left" if step.eta is not None else ""
    return f"{step.label}  {step.tokens_per_s:.1f} tokens/s{left}"
