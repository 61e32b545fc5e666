"""How ``zoo bench`` prints what it measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zoo.cli.output import echo, print_table
from zoo.units import bytes_text

if TYPE_CHECKING:
    from zoo.bench.measure import BenchRow
    from zoo.stages.bench import Bench

LATENCIES = (("ttft", "TTFT"), ("tpot", "TPOT"), ("itl", "ITL"), ("e2el", "end to end"))
STATISTICS = ("mean", "median", "p99")


def print_bench(done: Bench) -> None:
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
