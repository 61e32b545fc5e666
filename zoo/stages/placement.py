"""How a model would be spread over accelerators, and how fast it might be: an estimate from numbers alone.

The bound is the roofline (Williams, Waterman, Patterson 2009): a step takes as long as reading what it reads, or as its
products, whichever is longer, and beside it what devices tell each other. No measured figure is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zoo.catalog.devices import Device, parse_devices
from zoo.declarations.architecture import Architecture
from zoo.declarations.base import Value
from zoo.errors import UsageError, ZooError, unknown
from zoo.operations import record
from zoo.registry import Registry
from zoo.stages.describe import find_architecture
from zoo.units import bytes_text

BITS = {"fp16": 16.0, "int8": 8.125, "int4": 4.125}
"""Bits of a linear weight: levels, and a scale of 16 bits for 128 of them. Embedding and head stay at 16 bits."""
USABLE = 0.9
"""Share of a device's memory for weights and KV cache; the rest is the engine's."""
LATENCY = 10e-6
"""Seconds that devices of a node take to add up the smallest vector."""
NETWORK = 50e9
"""Bytes a second between nodes, one way: one 400 Gb/s adapter a device. Pipelines cross it."""
MOST_STREAMS = 256
"""Answers at once of one copy of the model."""
CONTEXT = 4096
"""Tokens of each answer and its prompt, unless stated or the model has fewer."""


class Split(Value):
    """One way to spread a model, and what it could do at most."""

    tensor: int
    """Devices that share every layer."""
    pipeline: int
    """Groups of layers, one behind the other."""
    replicas: int
    """Copies of the model."""
    layers: tuple[int, ...]
    """Layers of each group."""
    device_weight_bytes: int
    kv_tokens: int
    """Tokens that the KV caches of all copies have room for."""
    streams: int
    """Answers at once, all copies together."""
    stream_tokens_per_s: float
    """Of one answer alone."""
    tokens_per_s: float
    """Of all answers together."""
    prefill_tokens_per_s: float


class Placement(Value):
    """A model over devices."""

    model: str
    precision: str
    count: int
    device: Device
    context: int
    parameters: int
    weight_bytes: int
    kv_bytes_per_token: int
    splits: tuple[Split, ...]


@dataclass(frozen=True)
class _Model:
    """What of a model decides the times; sizes in bytes."""

    arch: Architecture
    active: int
    """Parameters that a token goes through."""
    weights: float
    dense: float
    """What every step reads."""
    experts: float
    """What a step reads the part of that its tokens go through."""
    kv: int

    def read(self, streams: float) -> float:
        """Bytes of weights that a step of so many tokens reads."""
        if not self.experts or self.arch.num_experts is None:
            return self.dense
        missed = float((1 - self.arch.num_experts_per_tok / self.arch.num_experts) ** streams)
        return self.dense + self.experts * (1 - missed)

    def kv_share(self, tensor: int) -> int:
        """Among how many devices a token's keys and values are divided; a latent is kept by each."""
        return 1 if self.arch.kv_lora_rank else min(tensor, self.arch.num_key_value_heads)


def place(
    registry: Registry, text: str, devices: str, precision: str = "int8", context: int | None = None
) -> Placement:
    """Spread a model over devices, in every way that fits.

    Args:
        text: MODEL, a package, or a checkpoint that is on this machine.
        devices: as ``8xH100``.
        context: tokens of each answer and its prompt.

    Raises:
        UsageError: an unknown name or precision, or a context that the model does not have.
        ZooError: it embeds, or does not fit.
    """
    count, device = parse_devices(devices)
    if precision not in BITS:
        raise unknown("precision", precision, BITS)
    label, arch = find_architecture(registry, text)
    tokens = context if context is not None else min(CONTEXT, arch.context_length)
    if not 1 <= tokens <= arch.context_length:
        raise UsageError(f"--context must be 1 to {arch.context_length}, the model's, not {tokens}")
    part = registry.architecture(arch.type)
    program = record(part, arch)
    if not program.generates:
        raise ZooError(f"{label} generates no text: there is nothing to spread over devices")
    parameters = part.parameter_count(arch)
    model = _measure(arch, parameters, program.kv_values_per_token, precision)
    splits = tuple(_splits(model, count, device, tokens))
    if not splits:
        room = f"{count} × {device.name} have {bytes_text(count * device.memory_gb * 1e9 * USABLE)}"
        raise ZooError(
            f"{label} in {precision} takes {bytes_text(model.weights)} of weights and {bytes_text(tokens * model.kv)} "
            f"for one answer of {tokens} tokens; {room} in parts that divide it; take more devices or fewer bits"
        )
    return Placement(
        model=label,
        precision=precision,
        count=count,
        device=device,
        context=tokens,
        parameters=parameters,
        weight_bytes=round(model.weights),
        kv_bytes_per_token=model.kv,
        splits=splits,
    )


def _measure(arch: Architecture, parameters: int, kv_values: int, precision: str) -> _Model:
    """Count what is kept and read, of a model whose matrices are in a precision."""
    table = arch.vocab_size * arch.hidden_size
    tables = table if arch.tie_word_embeddings else 2 * table
    active = parameters - arch.idle_parameters
    chosen, total = arch.num_experts_per_tok, arch.num_experts or 0
    experts = arch.idle_parameters * total / (total - chosen) if arch.idle_parameters else 0.0
    of_linear = BITS[precision] / 8
    weights = (parameters - tables) * of_linear + 2 * tables
    latent = arch.kv_lora_rank or 0
    values = arch.num_hidden_layers * (latent + (arch.qk_rope_head_dim or 0)) if latent else kv_values
    return _Model(
        arch,
        active - (0 if arch.tie_word_embeddings else table),
        weights,
        weights - (0 if arch.tie_word_embeddings else 2 * table) - experts * of_linear,
        experts * of_linear,
        2 * values,
    )


def _splits(model: _Model, count: int, device: Device, context: int) -> Iterator[Split]:
    """Make every way to spread a model that fits."""
    arch = model.arch
    heads, groups = arch.num_attention_heads, arch.num_key_value_heads
    for tensor in _divisors(count):
        if tensor > device.node or heads % tensor or (groups % tensor and tensor % groups):
            continue
        for pipeline in _divisors(count // tensor):
            if pipeline <= arch.num_hidden_layers:
                split = _split(model, device, context, tensor, pipeline, count // tensor // pipeline)
                if split is not None:
                    yield split


def _split(model: _Model, device: Device, context: int, tensor: int, pipeline: int, replicas: int) -> Split | None:
    """Estimate one way; None where it does not fit."""
    arch, parts = model.arch, tensor * pipeline
    bandwidth, flops = device.bandwidth_gb_s * 1e9, device.tflops * 1e12
    free = USABLE * device.memory_gb * 1e9 - model.weights / parts
    token = model.kv / (model.kv_share(tensor) * pipeline)  # of one device
    room = int(free / token) if free > 0 else 0
    if room < context:
        return None
    streams = min(MOST_STREAMS, room // context)

    def stage(batch: float) -> float:
        """Seconds that one group of layers takes for the next token of so many answers."""
        reading = (model.read(batch) / parts + batch * context * token) / bandwidth
        products = 2 * model.active * batch / parts / flops
        return max(reading, products) + _talking(batch)

    def _talking(tokens: float) -> float:
        vectors = 2 * tokens * arch.hidden_size
        added = LATENCY + 2 * (tensor - 1) / tensor * vectors / (device.link_gb_s * 1e9) if tensor > 1 else 0.0
        return 2 * arch.num_hidden_layers / pipeline * added + (LATENCY + vectors / NETWORK if pipeline > 1 else 0.0)

    batch = streams / pipeline
    chunk = 2048.0
    prefill = chunk / (2 * model.active * chunk / parts / flops + _talking(chunk))
    few, more = divmod(arch.num_hidden_layers, pipeline)
    return Split(
        tensor=tensor,
        pipeline=pipeline,
        replicas=replicas,
        layers=tuple(few + (index < more) for index in range(pipeline)),
        device_weight_bytes=round(model.weights / parts),
        kv_tokens=replicas * room,
        streams=replicas * streams,
        stream_tokens_per_s=1 / (pipeline * stage(1)),
        tokens_per_s=replicas * batch / stage(batch) if batch >= 1 else replicas * streams / (pipeline * stage(1)),
        prefill_tokens_per_s=replicas * prefill,
    )


def _divisors(number: int) -> list[int]:
    return [one for one in range(1, number + 1) if number % one == 0]
