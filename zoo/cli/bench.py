"""``zoo bench``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.options import EngineName, Json, Precision, chosen_options, with_options
from zoo.cli.output import echo, print_json, print_table
from zoo.cli.progress import drawn, seconds_left
from zoo.errors import UsageError, ZooError
from zoo.stages.bench.ask import Ask, Server
from zoo.units import bytes_text

if TYPE_CHECKING:
    from zoo.bench.measure import BenchRow, Progress
    from zoo.stages.bench.result import Bench
    from zoo.stages.texts import TextBench

INTERRUPTED = 130
LATENCIES = (("ttft", "TTFT"), ("tpot", "TPOT"), ("itl", "ITL"), ("e2el", "end to end"))
STATISTICS = ("mean", "median", "p99")


@with_options(Ask, Server)
def bench(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL|PACKAGE", help="A built model or a package folder.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Measure an OpenAI-compatible server instead of a package.")
    ] = None,
    precision: Precision = None,
    engine: EngineName = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures as CSV.")] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw latency against throughput.")] = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Measure how fast a package or a server answers: latencies and throughput under a stated load."""
    from zoo.plugins import host
    from zoo.stages.bench.package import bench_package
    from zoo.stages.bench.server import bench_server
    from zoo.stages.texts import TextBench

    ask = Ask(**chosen_options(Ask, options))
    if engine is not None and url is not None:
        raise UsageError("--engine opens a package; a server has its own")
    server = _server(model, url, precision, chosen_options(Server, options))
    for option, path in (("--csv", csv), ("--svg", svg)):
        _require_place(option, path)
    registry = host().registry
    done: Bench | TextBench
    try:
        with drawn(_line) as progress:
            if server is not None:
                done = bench_server(registry, server, ask, progress=progress)
            else:
                done = bench_package(registry, str(model), precision, ask, engine=engine, progress=progress)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if isinstance(done, TextBench):
        print_json(done.report) if as_json else _print_texts(done)
        return
    _write(done, csv, svg)
    if as_json:
        print_json(done.report or {"subject": done.subject, "settings": done.settings, "measured": done.measured})
    else:
        _print(done)


def _print_texts(done: TextBench) -> None:
    """Print one line per workload of a package that embeds or ranks texts."""
    echo(f"{done.subject}, recipe {done.report.recipe_hash[:12]}, {done.settings['threads']} threads")
    echo()
    print_table(
        ["WORKLOAD", "MEDIAN, ms", "TEXTS A SECOND", "TOKENS A SECOND"],
        [
            (str(row["label"]), f"{row['median_ms']:.2f}", f"{row['texts_per_s']:.1f}", f"{row['tokens_per_s']:.0f}")
            for row in done.measured["workloads"]
        ],
        right=(1, 2, 3),
    )
    echo(f"report: {done.path}")


def _server(model: str | None, url: str | None, precision: str | None, options: dict[str, Any]) -> Server | None:
    """Return the server to measure; None for a package.

    Raises:
        UsageError: neither or both are named, or options of one are given for the other.
    """
    if url is not None and model is not None:
        raise UsageError(
            f"--url measures a server and {model} is a package: give one (--model names the server's model)"
        )
    if url is None and model is None:
        raise UsageError("name what to measure: a model, a package folder, or --url of a server")
    if url is not None:
        if precision is not None:
            raise UsageError("-p chooses a package; a server has its own")
        return Server(url, **options)
    for option, name in (("--model", "served_model"), ("--tokenizer", "tokenizer"), ("--retries", "retries")):
        if options[name]:
            raise UsageError(f"{option} is for --url")
    return None


def _require_place(option: str, path: Path | None) -> None:
    """Reject an output file that cannot be written, before measuring."""
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


def _line(step: Progress) -> tuple[float, str]:
    return step.share, f"{step.label}  {step.tokens_per_s:.1f} tokens/s{seconds_left(step.eta)}"


def _print(done: Bench) -> None:
    """Print one workload in detail, several as a table."""
    echo(_title(done))
    echo()
    if len(done.rows) == 1:
        _print_one(done.rows[0])
    else:
        _print_many(done.rows)
    for workload in done.skipped:
        echo(f"skipped {workload.label}: {workload.reason}")
    for line in _notes(done):
        echo(line)
    if done.path is not None:
        echo(f"report: {done.path}")


def _title(done: Bench) -> str:
    settings = done.settings
    parts = [done.subject]
    if done.report is not None:
        parts.append(f"recipe {done.report.recipe_hash[:12]}")
    if settings.get("dataset"):
        parts.append(f"conversations of {settings['dataset']}")
    if len(done.rows) == 1:
        parts.append(done.rows[0].label)
    if settings["rounds"] > 1:
        parts.append(f"{settings['rounds']} rounds")
    return ", ".join(parts)


def _print_one(row: BenchRow) -> None:
    print_table(
        ["", "MEAN", "MEDIAN", "P99"],
        [
            (f"{name}, ms", *(_ms(getattr(row, f"{statistic}_{key}_ms")) for statistic in STATISTICS))
            for key, name in LATENCIES
        ],
        right=(1, 2, 3),
    )
    echo()
    print_table(
        ["THROUGHPUT", "A SECOND"],
        [
            ("requests", f"{row.request_throughput:.3g}"),
            ("output tokens", _rate(row.output_throughput)),
            ("decode tokens", _rate(row.decode_throughput)),
            ("all tokens", _rate(row.total_token_throughput)),
        ],
        right=(1,),
    )
    echo()
    failed = f", {row.failed} failed" if row.failed else ""
    echo(
        f"{row.completed} requests completed{failed} in {row.duration:.2f} s: {row.total_input_tokens:,} tokens in, "
        f"{row.total_output_tokens:,} out"
    )


def _print_many(rows: list[BenchRow]) -> None:
    print_table(
        ["A SECOND", "DONE", "REQUESTS", "OUTPUT TOKENS", "DECODE TOKENS", "ALL TOKENS"],
        [
            (
                row.label,
                str(row.completed) + (f" of {row.completed + row.failed}" if row.failed else ""),
                f"{row.request_throughput:.3g}",
                _rate(row.output_throughput),
                _rate(row.decode_throughput),
                _rate(row.total_token_throughput),
            )
            for row in rows
        ],
        right=range(1, 6),
    )
    echo()
    print_table(
        ["MEAN / MEDIAN / P99, MS", *(name.upper() for _, name in LATENCIES)],
        [
            (
                row.label,
                *(
                    " / ".join(_ms(getattr(row, f"{statistic}_{key}_ms")) for statistic in STATISTICS)
                    for key, _ in LATENCIES
                ),
            )
            for row in rows
        ],
        right=range(1, 5),
    )
    echo()


def _notes(done: Bench) -> Iterator[str]:
    if done.load_s is not None:
        yield f"load {done.load_s:.2f} s" + (
            f", peak RSS {bytes_text(done.peak_rss_bytes)}" if done.peak_rss_bytes else ""
        )
    for row in done.rows:
        where = f"{row.label}: " if len(done.rows) > 1 else ""
        for reason, count in row.errors.items():
            yield f"{where}{count} failed: {reason}"
        if row.retried:
            yield f"{where}{row.retried} times a request was turned away and sent again"
        if row.counted_by_pieces:
            yield (
                f"{where}the server sent no usage: of {row.counted_by_pieces} answers the pieces of text were counted, "
                "not the tokens"
            )
        if row.short_answers:
            yield f"{where}{row.short_answers} answers were shorter than asked for"
    sized = done.settings.get("prompts_sized_by")
    if sized == "server":
        yield "prompts are words, about as long as asked for by the server's count; --tokenizer makes them exact"
    elif sized == "words":
        yield "prompts have a word for each token asked for: the server does not count; --tokenizer makes them exact"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
