"""How much memory a package takes while it runs: computed from how each weight is stored, recorded in its manifest."""

from __future__ import annotations

import math
from dataclasses import dataclass

from zoo.contracts import OWN_ENGINE
from zoo.declarations.architecture import Architecture
from zoo.declarations.manifest import Manifest
from zoo.declarations.memory import RunMemory
from zoo.operations import Program
from zoo.operations.linear import Embedding
from zoo.package.layout import Layout, Placed, lay_out
from zoo.registry import Registry

RUN_CONTEXT = 2048
"""Tokens of context that the predicted memory of a run is for, unless the model has fewer."""
RUN_BASE = 110 * 2**20
"""Resident size of the interpreter with onnxruntime and a tokenizer."""


@dataclass(frozen=True)
class Held:
    """What of a computation decides the memory of a run."""

    widened: frozenset[str]
    """The weights that are held as float32 where they are stored as floats. onnxruntime has no CPU kernels for float16,
    so it widens what it computes with. An embedding stays as it is, mapped from the file: its rows are widened as they
    are looked up."""
    kv_values_per_token: int

    @classmethod
    def of(cls, program: Program) -> Held:
        """Read it off a program."""
        widened = frozenset(
            weight.name
            for step in program.steps
            if not isinstance(step.operation, Embedding)
            for weight in step.operation.weights
        )
        return cls(widened, program.kv_values_per_token)


def runs_here(layout: Layout) -> bool:
    """Tell whether an engine of zoo runs a package of this layout; if not, its memory is another program's matter."""
    return OWN_ENGINE in layout.target.engines and layout.architecture is not None


def run_memory(layout: Layout) -> RunMemory | None:
    """Compute what a package of this layout takes; None where other programs run it."""
    if not runs_here(layout) or layout.program is None:
        return None
    return memory_of(layout, Held.of(layout.program))


def memory_of(layout: Layout, held: Held) -> RunMemory:
    """Compute what a package of this layout takes, from what is known of its program."""
    return RunMemory(
        weights_bytes=sum(held_bytes(placed, held.widened) for placed in layout.placed),
        kv_bytes_per_token=4 * held.kv_values_per_token,
    )


def half_kv_bytes(arch: Architecture) -> int:
    """Count what a token's keys and values take where another program keeps them, in 16 bits."""
    return 4 * arch.num_hidden_layers * arch.num_key_value_heads * arch.head_dim


def held_bytes(placed: Placed, widened: frozenset[str]) -> int:
    """Count what a weight takes while the package runs; an embedding that is mapped, as if all of it were read."""
    if placed.scheme.kind == "float" and placed.parameter.name in widened:
        return math.prod(placed.parameter.shape) * 4
    scales = math.prod(placed.arrays[1].shape) if placed.scheme.kind == "block" else 0
    narrow = placed.scheme.kind == "block" and placed.scheme.scale_type != "float32"
    return sum(array.nbytes for array in placed.arrays) + (2 * scales if narrow else 0)


def recorded_memory(manifest: Manifest, registry: Registry) -> RunMemory | None:
    """Read what a package takes from its manifest; compute it from the recipe where an older zoo built it.

    Raises:
        ZooError: a part of the recipe is not installed.
    """
    return manifest.memory or run_memory(lay_out(manifest.recipe, registry))


def stored_bytes(manifest: Manifest) -> int:
    """Count the bytes of a package's files."""
    return sum(record.size for record in manifest.files.values())


def held_by(manifest: Manifest) -> int:
    """Count what a package's weights take in memory; of one that does not say it, as they are stored."""
    return manifest.memory.weights_bytes if manifest.memory is not None else stored_bytes(manifest)


def opening_bytes(manifest: Manifest) -> int:
    """Count what opening a package takes at its peak; one that does not say what it holds is taken as it is stored."""
    if manifest.memory is None:
        return stored_bytes(manifest)
    return manifest.memory.opening(round(manifest.bits_per_weight * manifest.parameters / 8))
