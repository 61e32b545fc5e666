"""The vendor's rules, checked before a file is written, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zoo import Architecture, ZooError
from zoo_vastai.options import STEP, DeployOptions

LARGE = 32_000_000_000
"""Parameters from which the compiler needs a deeper stack."""
STACK = {"VACC_STACK_SIZE": "256"}


def align_qkv(architecture: Architecture, tp: int) -> bool:
    """Tell whether K and V heads must be aligned: they cannot be dealt out to ``tp`` devices evenly."""
    return architecture.num_key_value_heads % tp != 0


def environment(parameters: int) -> dict[str, str]:
    """Give the variables that compiling a model of this size needs."""
    return dict(STACK) if parameters >= LARGE else {}


def broken(architecture: Architecture, tp: int, shapes: Sequence[int]) -> Iterator[str]:
    """Name every rule that these numbers break, with the reason."""
    context = architecture.max_position_embeddings
    for shape in shapes:
        if shape % STEP:
            below, above = shape // STEP * STEP, -(-shape // STEP) * STEP
            near = f"{below} or {above}" if below else f"{above}"
            yield f"shape {shape} is not a multiple of {STEP}, in which the hardware computes; take {near}"
        elif shape > context:
            yield (
                f"shape {shape} is longer than the context of {context} tokens (max_position_embeddings), "
                "past which the model has no positions"
            )
    heads = architecture.num_attention_heads
    if heads % tp:
        sizes = ", ".join(str(size) for size in range(1, min(heads, 64) + 1) if heads % size == 0)
        yield (
            f"tp {tp} does not divide the {heads} attention heads, which are dealt out whole to the devices; "
            f"tp may be {sizes}"
        )


def check(target: str, architecture: Architecture, tp: int, shapes: Sequence[int]) -> None:
    """Refuse numbers that break a rule.

    Raises:
        ZooError: the first rule that is broken.
    """
    for message in broken(architecture, tp, shapes):
        raise ZooError(f"target {target!r}: {message}")


def check_devices(target: str, options: DeployOptions) -> None:
    """Refuse a list of devices that is not one for each part of the model.

    Raises:
        ZooError: too many or too few, or one twice.
    """
    devices = options.devices
    if devices is not None and (len(devices) != options.tp or len(set(devices)) != len(devices)):
        raise ZooError(
            f"target {target!r}: devices {','.join(map(str, devices))} are not {options.tp} different ones, one for "
            f"each of the tp {options.tp} parts of the model"
        )
