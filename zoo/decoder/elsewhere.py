"""How transformers computes a checkpoint whose own class it does not have, by a type that computes the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zoo.contracts import Parameter, RowSlice, stacked
from zoo.declarations.architecture import Architecture
from zoo.declarations.traits import Trait, fields_with
from zoo.decoder import experts
from zoo.decoder.weights import parameters

_FUSED = {"self_attn.qkv_proj": [f"self_attn.{each}_proj" for each in "qkv"],
          "mlp.gate_up_proj": ["mlp.gate_proj", "mlp.up_proj"]}  # fmt: skip


_OF_EXPERTS = re.compile(r"(model\.layers\.\d+\.)mlp\.(?:(gate\.\w+)|experts\.(gate_up|down)_proj)")


class SameType:
    """A checkpoint by its own type and names, in the context that it is built for (``InTransformers``)."""

    def __init__(self, arch: Architecture) -> None:
        self._arch = arch

    def transformers_config(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Leave the configuration as it is, but for the factors of LongRoPE that this context does not call for."""
        return _of_context(self._arch, config)

    def transformers_weight(self, arch: Architecture, name: str) -> Parameter | None:
        """None: weights are called as they are stored."""
        return None


def _of_context(arch: Architecture, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """State one set of factors twice, since transformers changes from one to the other with the length of a text."""
    divisors = arch.rope_scaling and arch.rope_scaling.divisors(arch.context_length)
    if divisors is None:
        return config
    where = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    return {**config, where: {**config[where], "short_factor": list(divisors), "long_factor": list(divisors)}}


class FusedExperts(SameType):
    """A checkpoint's separate experts as the fused tensors that transformers 5 holds (``InTransformers``)."""

    def transformers_weight(self, arch: Architecture, name: str) -> Parameter | None:
        """Stack the experts' rows as they lie there; None of what is no expert's nor a router's."""
        match = _OF_EXPERTS.fullmatch(name)
        if match is None:
            return None
        if arch.experts_in_turn:
            return _in_turn(arch, match[1], match[3])
        block, (gate, up, down), width = f"{match[1]}{arch.moe_block}", arch.expert_projections, arch.expert_width
        hidden, count = arch.hidden_size, arch.num_experts or 0
        if match[2]:
            shape = (count, hidden) if match[2] == "gate.weight" else (count,)
            return Parameter(name, "router", (RowSlice(f"{block}.{match[2]}", shape),))
        parts = [(gate, (width, hidden)), (up, (width, hidden))] if match[3] == "gate_up" else [(down, (hidden, width))]
        rows = [
            RowSlice(f"{block}.experts.{expert}.{part}.weight", shape)
            for expert in range(count)
            for part, shape in parts
        ]
        return Parameter(name, "linear", stacked(*rows))


def _in_turn(arch: Architecture, prefix: str, way: str | None) -> Parameter | None:
    """The experts of a layer as they lie in one tensor, (experts, out, in); transformers holds (experts, in, out)."""
    own = {parameter.role: parameter for parameter in experts.parameters(arch, int(prefix.split(".")[2]))}
    return replace(own[f"mlp.experts.{way}"], transposed=True) if way else None


class Elsewhere:
    """The numbers of ``arch`` as a ``config.json`` of another type, and its weights under that type's names.

    The other type's names are those that the decoder uses where nothing else is stated (``InTransformers``).
    """

    def __init__(self, arch: Architecture) -> None:
        self._arch = arch
        plain = arch.model_copy(update={"qkv_layout": "apart", "fused_gate_up": False, "tensor_names": {}})
        self._rows: dict[str, RowSlice] = {}
        for own, theirs in zip(parameters(arch, 1), parameters(plain, 1), strict=True):
            for rows, named in zip(own.slices, theirs.slices, strict=True):
                self._rows[named.tensor] = rows

    def transformers_config(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write the numbers as a ``config.json`` of the other type."""
        arch, unsaid = self._arch, fields_with(Architecture, Trait.IMPLIED)
        numbers = arch.model_dump(mode="json", exclude={"type", "options", *unsaid}, exclude_none=True)
        bias = arch.attention_bias or arch.qkv_bias
        stated = {"model_type": arch.verify_as, **numbers, "attention_bias": bias, "pad_token_id": None}
        return _of_context(arch, stated)

    def transformers_weight(self, arch: Architecture, name: str) -> Parameter | None:
        """Find the rows of a weight of the other type, which may lie in several tensors here."""
        module, _, suffix = name.rpartition(".")
        parts = [module]
        for fused, apart in _FUSED.items():
            if module.endswith(fused):
                parts = [module.removesuffix(fused) + part for part in apart]
        slices = [self._rows.get(f"{part}.{suffix}") for part in parts]
        placed = [replace(rows, at=0) for rows in slices if rows is not None]
        return Parameter(name, "linear", stacked(*placed)) if len(placed) == len(parts) else None
