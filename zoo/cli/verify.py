"""``zoo verify``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.options import Json, Precision
from zoo.cli.output import echo, print_json, print_table
from zoo.cli.progress import step_progress

if TYPE_CHECKING:
    from zoo.stages.texts import EncoderVerification
    from zoo.stages.verify import Verification
    from zoo.verify.result import Check, Figures


def verify(
    model: Annotated[str, typer.Argument(help="A package folder or a built model.")],
    precision: Precision = None,
    weights: Annotated[str | None, typer.Option(metavar="DIR|HUB_ID", help="Folder of the original weights.")] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option("--adapter", metavar="DIR", help="Folder of a merged adapter; several in order."),
    ] = None,
    files: Annotated[
        bool, typer.Option("--files", help="Only compare every file with the SHA-256 in zoo.json.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and shorter texts.")] = False,
    as_json: Json = False,
) -> None:
    """Compare a package with transformers on the original weights; exit code 1 past the tolerance."""
    from zoo.plugins import host
    from zoo.stages.verify import Verification
    from zoo.stages.verify import verify as verify_package

    if files:
        _files(model, precision, as_json=as_json)
        return
    with step_progress() as progress:
        done = verify_package(
            host().registry, model, precision, weights=weights, adapters=adapter or (), quick=quick, progress=progress
        )
    if as_json:
        print_json(done.report)
    elif isinstance(done, Verification):
        _print(done)
    else:
        _print_encoder(done)
    if not done.verdict.passed:
        raise typer.Exit(1)


def _files(model: str, precision: str | None, *, as_json: bool) -> None:
    from zoo.plugins import host
    from zoo.stages.subject import find_package
    from zoo.stages.verify import bad_files

    folder = find_package(host().registry, model, precision)
    manifest, bad = bad_files(folder)
    if as_json:
        print_json({"package": str(folder), "files": len(manifest.files), "bad": bad})
    elif bad:
        for line in bad:
            echo(line)
    else:
        echo(f"{folder.name}: {len(manifest.files)} files, all as they were built")
    if bad:
        raise typer.Exit(1)


def _print(done: Verification) -> None:
    report, verdict = done.report, done.verdict
    figures = verdict.figures
    name = f"{report.family}/{report.model}" if report.family else report.model
    reference = str(report.settings.get("reference", "transformers"))
    version = f" {report.versions[reference]}" if reference in report.versions else ""
    echo(
        f"{name} {report.precision}, recipe {report.recipe_hash[:12]}, against {reference}{version} "
        f"at {figures.positions} positions"
    )
    echo()
    print_table(
        ["CHECK", "MEASURED", "LIMIT", ""],
        [(check.name, _value(check, check.value), _limit(check), _status(check)) for check in verdict.checks],
        right=(1, 2),
    )
    echo()
    for line in _also(figures):
        echo(line)
    _beside(done)
    echo(f"report: {done.path}")
    if verdict.passed:
        lossy = [check.name for check in verdict.checks if not check.passed]
        echo(f"verified; sound, but it loses more than is usual: {'; '.join(lossy)}" if lossy else "verified")
        return
    echo()
    if verdict.diverging is None:
        echo("not verified; no single layer is past its tolerance, the errors add up")
    else:
        echo(f"not verified; the first that diverges: {verdict.diverging}")
    print_table(
        ["PLACE", "ERROR SO FAR", "ITS OWN", "OF ITS WEIGHTS", "OF ITS KERNELS"],
        [
            (
                place.name,
                *map(_number, (place.carried, place.own)),
                *("-" if part is None else _number(part) for part in (place.weights, place.arithmetic)),
            )
            for place in figures.places
        ],
        right=(1, 2, 3, 4),
    )


def _beside(done: Verification) -> None:
    """Show what others lose at the same precision."""
    usual, figures = done.usual, done.verdict.figures
    if not usual.packages:
        return
    echo()
    echo(f"beside what was measured on {usual.model}, hidden size {usual.hidden_size}, over other texts:")
    rows = [(one.name, _number(one.kl_mean), f"{one.top1:.1%}") for one in usual.packages]
    print_table(
        ["PACKAGE", "MEAN KL", "SAME TOKEN"],
        [("this one", _number(figures.kl_mean), f"{figures.top1:.1%}"), *rows],
        right=(1, 2),
    )
    echo()


def _status(check: Check) -> str:
    return "ok" if check.passed else "FAILED" if check.breaks else "lossy"


def _print_encoder(done: EncoderVerification) -> None:
    """Print each figure of a package that embeds or ranks beside its limit."""
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


def _also(figures: Figures) -> Iterator[str]:
    yield f"top-1 agreement {figures.top1:.2%}, worst KL {_number(figures.kl_worst)} nats"
    yield (
        f"largest logit difference {_number(figures.largest_logit_difference)} "
        f"({_number(figures.logit_difference)} standard deviations)"
    )
    if figures.text_tokens:
        yield f"perplexity {_number(figures.perplexity, 6)}, reference {_number(figures.perplexity_reference, 6)}"
    if figures.greedy is None:
        yield "greedy tokens: not compared, the package does not fit into memory"
    else:
        equal, tokens = sum(prompt.equal for prompt in figures.greedy), sum(prompt.tokens for prompt in figures.greedy)
        yield f"greedy tokens: {equal} of {tokens} equal up to the first other one of each prompt"
    if (loss := figures.loss) is not None:
        yield (
            f"of a mean KL of {_number(loss.whole)} on {loss.positions} positions, rounded weights alone lose "
            f"{_number(loss.weights)}, rounded activations on top {_number(loss.activations)}"
        )


def _number(value: float | None, digits: int = 3) -> str:
    return "not finite" if value is None else f"{value:.{digits}g}"


def _value(check: Check, value: float | None) -> str:
    return f"{value:.2%}" if check.at_least and value is not None else _number(value)


def _limit(check: Check) -> str:
    return f"{'≥' if check.at_least else '≤'} {_value(check, check.limit)}"
