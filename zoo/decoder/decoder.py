"""The architecture part ``decoder``: what each of its files does, gathered under the contract."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from zoo.contracts import Checkpoint, InTransformers, Parameter
from zoo.declarations.architecture import Architecture
from zoo.decoder import config, experts, forward, weights
from zoo.operations import GraphOps

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Decoder:
    """A pre-norm decoder with rotary positions: RMSNorm, attention, gated MLP (the ``ArchitecturePart`` protocol)."""

    activations: ClassVar[frozenset[str]] = config.ACTIVATIONS

    def read_config(self, config_json: Mapping[str, Any], implied: Mapping[str, Any] = NOTHING) -> Architecture:
        """Read a checkpoint's ``config.json``; ``implied`` holds where it is silent."""
        return config.read_config(config_json, implied)

    def tensors(self, arch: Architecture) -> dict[str, tuple[int, ...]]:
        """Name every tensor that a checkpoint of these numbers holds, with its shape."""
        return weights.tensors(arch)

    def parameter_count(self, arch: Architecture) -> int:
        """Count the weights of those tensors."""
        return weights.parameter_count(arch)

    def ignored(self, arch: Architecture, name: str) -> bool:
        """Tell whether a tensor carries nothing of its own."""
        return weights.ignored(arch, name)

    def parameters(self, arch: Architecture, head_multiple: int = 1) -> list[Parameter]:
        """List the weights of the graph, heads widened to a multiple of ``head_multiple``."""
        return weights.parameters(arch, head_multiple)

    def as_stored(self, arch: Architecture, tensors: Collection[str]) -> Architecture:
        """Finish numbers by what the tensors are called."""
        return experts.as_stored(arch, tensors)

    def swapped(self, arch: Architecture, checkpoint: Checkpoint) -> Collection[str]:
        """Name tensors whose matrices lie as (in, out)."""
        return experts.swapped(arch, checkpoint)

    def forward(self, arch: Architecture, ops: GraphOps, head_multiple: int = 1) -> None:
        """Compose the computation."""
        forward.forward(arch, ops, head_multiple)

    def one_of_each_layer(self, arch: Architecture) -> Architecture:
        """Shorten the numbers to two layers, or one of each type, that compose the same operations."""
        return arch.with_layers(min(max(2, arch.layer_kinds), arch.num_hidden_layers))

    def in_transformers(self, arch: Architecture) -> InTransformers | None:
        """Say how transformers computes the same where it does so as another type, otherwise, or from fused experts."""
        from zoo.decoder.elsewhere import Elsewhere, FusedExperts, SameType

        if arch.verify_as is not None:
            return Elsewhere(arch)
        if arch.num_experts is not None and (arch.experts_in_turn or not arch.fused_experts):
            return FusedExperts(arch)
        longrope = arch.rope_scaling is not None and arch.rope_scaling.rope_type == "longrope"
        return SameType(arch) if longrope else None
