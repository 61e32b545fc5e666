"""``zoo plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.options import Json
from zoo.cli.output import echo, print_json, print_table
from zoo.units import bytes_text, count_text

if TYPE_CHECKING:
    from zoo.stages.placement import Split


def plan(
    model: Annotated[str, typer.Argument(help="A declared model, a package, or a checkpoint on this machine.")],
    devices: Annotated[str, typer.Option(metavar="NxDEVICE", help="Number and kind of accelerators, such as 8xH100.")],
    precision: Annotated[
        str, typer.Option("-p", "--precision", help="Precision of the weights: int8, int4 or fp16.")
    ] = "int8",
    context: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Tokens of each prompt and answer together; by default 4096, or the model's context."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Estimate how a model is split over accelerators, the room for KV caches, and the speed.

    Nothing is measured: the figures follow from the numbers of model and devices, and are upper bounds.
    """
    from zoo.plugins import host
    from zoo.stages.placement import USABLE, place

    found = place(host().registry, model, devices, precision, context)
    if as_json:
        print_json(found)
        return
    device = found.device
    echo(
        f"{found.model} in {found.precision}: {count_text(found.parameters)} parameters, "
        f"{bytes_text(found.weight_bytes)} of weights, {bytes_text(found.kv_bytes_per_token)} of KV cache a token"
    )
    echo(
        f"{found.count} × {device.title}: {device.memory_gb:g} GB at {device.bandwidth_gb_s:g} GB/s, "
        f"{device.tflops:g} TFLOPS of 16 bits, {device.link_gb_s:g} GB/s between devices ({device.source})\n"
    )
    print_table(
        [
            "TENSOR",
            "PIPELINE",
            "COPIES",
            "LAYERS",
            "WEIGHTS",
            "KV TOKENS",
            "ANSWERS",
            "ONE TOK/S",
            "ALL TOK/S",
            "PROMPT TOK/S",
        ],
        [
            (
                str(split.tensor),
                str(split.pipeline),
                str(split.replicas),
                _layers(split.layers),
                bytes_text(split.device_weight_bytes),
                count_text(split.kv_tokens),
                str(split.streams),
                f"{split.stream_tokens_per_s:,.0f}",
                f"{split.tokens_per_s:,.0f}",
                f"{split.prefill_tokens_per_s:,.0f}",
            )
            for split in found.splits
        ],
        right=(0, 1, 2, 4, 5, 6, 7, 8, 9),
    )
    echo(
        f"\nAn estimate, not a measurement: upper bounds by roofline, {found.context} tokens of prompt and answer, "
        f"{USABLE:.0%} of the memory, KV cache in 16 bits."
    )
    for words, split in (
        ("one answer fastest", max(found.splits, key=lambda split: split.stream_tokens_per_s)),
        ("most answers", max(found.splits, key=lambda split: split.tokens_per_s)),
    ):
        echo(f"For {words}: {_command(model, found.precision, split)}")


def _layers(groups: tuple[int, ...]) -> str:
    """Write the layers of each group, equal neighbours together."""
    sizes = dict.fromkeys(groups)
    return " + ".join(f"{groups.count(size)} × {size}" if groups.count(size) > 1 else str(size) for size in sizes)


def _command(model: str, precision: str, split: Split) -> str:
    """Write how a copy is built for what serves on the devices."""
    from zoo.catalog.devices import read_devices
    from zoo.terminal import command_line

    options = [f"--{name}={size}" for name, size in (("tp", split.tensor), ("pp", split.pipeline)) if size > 1]
    built = command_line(
        "zoo", "build", model, "-p", precision, "--target", read_devices().target, *options, "-o", "OUT"
    )
    return built + (f", served {split.replicas} times" if split.replicas > 1 else "")
