"""``zoo build``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.documents import build_documents
from zoo.cli.options import GIVEN, Json, with_options
from zoo.cli.output import echo, print_json, stored_text
from zoo.errors import UsageError
from zoo.stages.request import Request
from zoo.units import bytes_text

if TYPE_CHECKING:
    from zoo.declarations.plan import Plan
    from zoo.stages.mixed import MixedChoice
    from zoo.stages.pipeline import Built


def parse_options(pairs: list[str] | None) -> dict[str, Any]:
    """Read ``name=value`` pairs; a value is read as JSON where it is JSON, else as text."""
    options: dict[str, Any] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"an option is name=value, not {pair!r}")
        try:
            options[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            options[name.replace("-", "_")] = value
    return options


def parse_transform(text: str) -> tuple[str, dict[str, Any]]:
    """Read ``name`` or ``name:option=value,option=value``."""
    name, _, options = text.partition(":")
    return name, parse_options([pair for pair in options.split(",") if pair])


@with_options(Request)
def build(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A declared model, a checkpoint folder or a hub id.")],
    transform: Annotated[
        list[str] | None,
        typer.Option(
            "--transform",
            metavar="NAME[:OPTION=VALUE,...]",
            help="Transform of the weights before the build; several are applied in order.",
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder with the dataset's files.")] = None,
    device: Annotated[
        str | None, typer.Option(help="Device for calibration: cpu or cuda; targets with a device option use it too.")
    ] = None,
    quantizer_option: Annotated[
        list[str] | None, typer.Option("--quantizer-option", metavar="NAME=VALUE", help="An option of the quantizer.")
    ] = None,
    target_option: Annotated[
        list[str] | None, typer.Option("--target-option", metavar="NAME=VALUE", help="An option of the target.")
    ] = None,
    block_size: Annotated[int | None, typer.Option(help="Number of weights that share a scale (16 to 256).")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder of the new package.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=64, help="Worker threads; by default one a core.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only plan: read headers and print the cost.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing package.")] = False,
    as_json: Json = False,
    **choices: Any,
) -> None:
    """Build a package: quantized weights, graph, tokenizer and manifest in one folder."""
    from zoo.cli.mixed import print_choice
    from zoo.cli.progress import build_progress, progress_bar
    from zoo.plugins import host
    from zoo.stages import pipeline
    from zoo.stages.several import build_several, memory_of_all, pin_several, plan_several

    options = parse_options(quantizer_option)
    if block_size is not None:
        options["block_size"] = block_size
    registry = host().registry
    target = choices["target"]
    wanted = {**parse_options(target_option), **ctx.meta.get(GIVEN, {})}
    several = "," in target
    if not several and device is not None and "device" in registry.target(target).Options.model_fields:
        wanted["device"], device = device, None
    transforms = tuple(parse_transform(text) for text in transform or ())
    request = Request(model, transforms=transforms, quantizer_options=options, target_options=wanted, **choices)
    with progress_bar() as draw:
        measured: Callable[[int, int], None] | None = draw and (
            lambda done, of: draw(done / of, f"measuring sensitivity, pass {done} of {of}")
        )
        pinning: Any = {"data": data, "device": device or "cpu", "planning": dry_run, "progress": measured}
        if several:
            if output is None:
                raise UsageError("several targets: name the folder that holds a folder for each, -o DIR")
            each = pin_several(registry, request, **pinning)
        else:
            pinned = pipeline.pin(registry, request, **pinning)
    if several and output is not None:
        if dry_run:
            memory = memory_of_all(registry, each, threads)
            _print_plans(plan_several(registry, each, output, threads=threads), memory, as_json=as_json)
            return
        with build_progress() as progress:
            packages = build_several(
                registry, each, output, device=device or "cpu", threads=threads, force=force, progress=progress
            )
        if as_json:
            print_json([_told(one, each[name].mixed) for name, one in packages.items()])
        else:
            for name, one in packages.items():
                _print_built(one, each[name].mixed, as_json=False)
        return
    if pinned.mixed is not None and not as_json:
        print_choice(pinned.mixed)
    if not pinned.reads_weights(registry):
        folder = pinned.output(output)
        build_documents(pinned.resolved, folder, registry, force=force, dry_run=dry_run, as_json=as_json)
        return
    if dry_run:
        planned = pipeline.plan(registry, pinned, output, threads=threads)
        print_json(planned) if as_json else _print_plan(planned)
        return
    with build_progress() as progress:
        built = pipeline.build(
            registry, pinned, output, device=device or "cpu", threads=threads, force=force, progress=progress
        )
    _print_built(built, pinned.mixed, as_json=as_json)


def _print_built(built: Built, mixed: MixedChoice | None, *, as_json: bool) -> None:
    """Print what was built."""
    if as_json:
        print_json(_told(built, mixed))
        return
    package, already_built = built.package, built.already_built
    manifest = package.manifest
    size = sum(record.size for record in manifest.files.values())
    done = "already built" if already_built else "built"
    echo(
        f"{done} {package.path}: {manifest.recipe.precision}, {bytes_text(size)}, "
        f"{manifest.bits_per_weight:.2f} bits per weight, recipe {manifest.recipe_hash[:12]}"
    )


def _told(built: Built, mixed: MixedChoice | None) -> dict[str, Any]:
    """Return what was built as plain values."""
    manifest = built.package.manifest
    return {
        "package": str(built.package.path),
        "model": manifest.recipe.model,
        "precision": manifest.recipe.precision,
        "recipe_hash": manifest.recipe_hash,
        "already_built": built.already_built,
        "parameters": manifest.parameters,
        "bits_per_weight": manifest.bits_per_weight,
        "bytes": sum(record.size for record in manifest.files.values()),
        **({"mixed": mixed.model_dump(mode="json")} if mixed is not None else {}),
    }


def _print_plans(plans: Mapping[str, Plan], memory: int, *, as_json: bool) -> None:
    """Print the plans of several targets, and what all take together: disk, and ``memory`` in bytes."""
    if as_json:
        print_json({name: plan.model_dump(mode="json") for name, plan in plans.items()})
        return
    for name, plan in plans.items():
        echo(f"target {name}")
        _print_plan(plan)
        echo()
    total = sum(plan.disk_output_bytes for plan in plans.values())
    cache = max(plan.disk_cache_bytes for plan in plans.values())
    echo(f"disk of all: {bytes_text(cache + total)}; peak memory of building them together: {bytes_text(memory)}")


def _run_text(plan: Any) -> str:
    """Write what running takes; also over an 8-bit KV cache, where there is a cache."""
    plain, smaller = bytes_text(plan.run_memory_bytes), bytes_text(plan.run_int8_kv_bytes)
    return plain if plain == smaller else f"{plain}, {smaller} with --kv int8"


def _print_plan(plan: Any) -> None:
    """Print what a build would do and cost."""
    rows = [
        ("output", plan.output),
        ("recipe", plan.recipe_hash[:12]),
        ("parameters", f"{plan.parameters:,}"),
        ("bits per weight", f"{plan.bits_per_weight:.2f}"),
        ("to download", bytes_text(plan.download_bytes)),
        ("to read", bytes_text(plan.read_bytes)),
        ("to write", bytes_text(plan.write_bytes)),
        ("peak memory", bytes_text(plan.peak_memory_bytes)),
        ("disk", bytes_text(plan.disk_cache_bytes + plan.disk_output_bytes)),
        (f"memory to run at {plan.run_context} tokens", _run_text(plan)),
    ]
    if plan.format:
        arch = plan.recipe.architecture
        numbers = f"{arch.num_hidden_layers} layers of {arch.hidden_size}, {arch.attention}"
        rows[2:2] = [("weights", stored_text(plan)), ("architecture", f"{arch.type}, {numbers}")]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        echo(f"{name.ljust(width)}  {value}")
    for number, step in enumerate(plan.steps, 1):
        echo(f"{number}. {step}")
