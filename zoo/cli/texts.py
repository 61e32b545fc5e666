"""How verifications and measurements of packages that embed or rank are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.cli.output import echo, print_table

if TYPE_CHECKING:
    from zoo.stages.texts import EncoderVerification, TextBench


def print_texts_verified(done: EncoderVerification) -> None:
    """Print each figure beside its limit."""
    report, verdict = done.report, done.verdict
    name = f"{report.family}/{report.model}" if report.family else report.model
    reference = str(report.settings["reference"])
    version = f" {report.versions[reference]}" if reference in report.versions else ""
    echo(
        f"{name} {report.precision}, recipe {report.recipe_hash[:12]}, against {reference}{version} "
        f"on {verdict.texts} texts"
    )
    echo()
    print_table(
        ["CHECK", "MEASURED", "LIMIT", ""],
        [
            (check.name, f"{check.value:.6f}", f"≥ {check.limit:g}", "ok" if check.passed else "FAILED")
            for check in verdict.checks
        ],
        right=(1, 2),
    )
    echo()
    echo(f"farthest from the reference: {verdict.worst}")
    echo(f"report: {done.path}")
    echo("verified" if verdict.passed else "not verified")


def print_texts_measured(done: TextBench) -> None:
    """Print one line per workload."""
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
