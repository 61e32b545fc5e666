"""The architecture part ``embedder``: the decoder, with its hidden states as the result instead of a next token."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from zoo.contracts import Parameter
from zoo.declarations.architecture import Architecture
from zoo.decoder import forward, weights
from zoo.decoder.decoder import Decoder
from zoo.operations import GraphOps

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Embedder(Decoder):
    """A decoder without its head; a text is embedded as a whole, so nothing is cached."""

    def read_config(self, config_json: Mapping[str, Any], implied: Mapping[str, Any] = NOTHING) -> Architecture:
        """Read a checkpoint's ``config.json`` as the decoder does."""
        return super().read_config(config_json, implied).model_copy(update={"type": "embedder"})

    def tensors(self, arch: Architecture) -> dict[str, tuple[int, ...]]:
        """Name every tensor but the head's."""
        return weights.tensors(_tied(arch))

    def parameter_count(self, arch: Architecture) -> int:
        """Count the weights of those tensors."""
        return weights.parameter_count(_tied(arch))

    def ignored(self, arch: Architecture, name: str) -> bool:
        """Tell whether a tensor carries nothing of its own here, as the head."""
        return weights.ignored(_tied(arch), name)

    def parameters(self, arch: Architecture, head_multiple: int = 1) -> list[Parameter]:
        """List the weights of the graph."""
        return weights.parameters(_tied(arch), head_multiple)

    def forward(self, arch: Architecture, ops: GraphOps, head_multiple: int = 1) -> None:
        """Compose the computation."""
        ops.hidden_states(forward.hidden_states(arch, ops, head_multiple))


def _tied(arch: Architecture) -> Architecture:
    """The same numbers with no head of its own, whether or not a checkpoint still has one."""
    return arch.model_copy(update={"tie_word_embeddings": True})
