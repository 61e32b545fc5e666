"""The ``config.json`` that a GGUF file's metadata amounts to."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any

from zoo import ZooError
from zoo_gguf.architectures import ARCHITECTURES, NUMBERS, WITH_EXPERTS, GgufArchitecture
from zoo_gguf.header import StoredTensor

_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""What every published model of this scaling states; a file keeps only the frequencies that follow."""

_TOKENS = {"bos": "bos_token_id", "eos": "eos_token_id", "padding": "pad_token_id"}


def find_architecture(metadata: Mapping[str, Any], where: str) -> tuple[str, GgufArchitecture]:
    """Look up what a file's architecture means.

    Raises:
        ZooError: it names none, or one that is not read.
    """
    name = metadata.get("general.architecture")
    if not isinstance(name, str):
        raise ZooError(f"{where}: names no general.architecture")
    if name not in ARCHITECTURES:
        raise ZooError(f"{where}: architecture {name!r:.60} is not read; known: {', '.join(sorted(ARCHITECTURES))}")
    architecture = WITH_EXPERTS.get(name) if metadata.get(f"{name}.expert_count") else None
    return name, architecture or ARCHITECTURES[name]


def make_config(
    metadata: Mapping[str, Any], tensors: Mapping[str, StoredTensor], factors: list[float] | None, where: str
) -> dict[str, Any]:
    """Make a ``config.json``.

    Args:
        metadata: the file's key-value pairs.
        tensors: by the file's names.
        factors: what rotary frequencies are divided by (``rope_freqs.weight``), where the file says it.
        where: the file, for messages.

    Raises:
        ZooError: metadata that contradicts itself or the tensors.
    """
    return _Config(metadata, tensors, where).make(factors)


class _Config:
    def __init__(self, metadata: Mapping[str, Any], tensors: Mapping[str, StoredTensor], where: str) -> None:
        self._name, self._arch = find_architecture(metadata, where)
        self._metadata, self._tensors, self._where = metadata, tensors, where

    def make(self, factors: list[float] | None) -> dict[str, Any]:
        arch = self._arch
        config: dict[str, Any] = {"model_type": arch.model_type, **arch.fixed}
        for key, name in {**NUMBERS, **arch.numbers}.items():
            value = self._number(key)
            if value is not None:
                config[name] = value
        embedding = self._tensors.get("token_embd.weight")
        if embedding is None or len(embedding.shape) != 2:
            raise self._error("holds no token_embd.weight of two dimensions, so it is not a whole language model")
        config["vocab_size"] = embedding.shape[0]
        stated = self._number("vocab_size")
        if stated is not None and stated != embedding.shape[0]:
            raise self._error(
                f"{self._name}.vocab_size is {stated}, but token_embd.weight has {embedding.shape[0]} rows"
            )
        config["tie_word_embeddings"] = "output.weight" not in self._tensors
        config.setdefault("rope_theta", 10000.0)
        heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
        if _whole(heads) and _whole(hidden):
            config.setdefault("num_key_value_heads", heads)
            if hidden % heads == 0:
                config.setdefault("head_dim", hidden // heads)
        config |= self._rope(factors, config)
        config |= self._layers(config)
        if arch.bias is not None:
            config[arch.bias] = "blk.0.attn_q.bias" in self._tensors
            config["mlp_bias"] = "blk.0.ffn_up.bias" in self._tensors
        if arch.head_norms is not None:
            config[arch.head_norms] = "blk.0.attn_q_norm.weight" in self._tensors
        for key, name in _TOKENS.items():
            config[name] = self._metadata.get(f"tokenizer.ggml.{key}_token_id")
        return config

    def _layers(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """State what differs from layer to layer, and the scale of scores that goes by the number of layers."""
        arch, layers, fields = self._arch, config.get("num_hidden_layers"), dict[str, Any]()
        if not _whole(layers) or layers > 10_000:
            return fields
        if arch.window_every:
            window = fields["sliding_window"] = config.get("sliding_window")
            full = [not window or (index + 1) % arch.window_every == 0 for index in range(layers)]
            fields["layer_types"] = ["full_attention" if whole else "sliding_attention" for whole in full]
        if arch.rope_every:
            fields["no_rope_layers"] = [int((index + 1) % arch.rope_every != 0) for index in range(layers)]
        if arch.wide_from and _whole(config.get("head_dim")):
            wide = layers >= arch.wide_from
            heads = config.get("num_attention_heads")
            fields["query_pre_attn_scalar"] = config["hidden_size"] // heads if wide and heads else config["head_dim"]
        return fields

    def _rope(self, factors: list[float] | None, config: Mapping[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        turned, head = self._number("rope.dimension_count"), config.get("head_dim")
        if _whole(turned) and _whole(head) and turned != head:
            if not self._arch.partial_rotary:
                raise self._error(f"positions turn {turned} of {head} values of a head, which {self._name} does not do")
            fields["partial_rotary_factor"] = turned / head
        kind = self._metadata.get(f"{self._name}.rope.scaling.type", "none")
        factor = self._number("rope.scaling.factor") or 1.0
        if any(name.startswith("rope_factors_") for name in self._tensors):
            kind = "longrope"
        if factors is not None:
            fields["rope_scaling"] = self._llama3(factors, config)
        elif kind not in ("none", "linear") or factor != 1.0:
            scaling: dict[str, Any] = {"rope_type": "linear" if kind == "none" else kind, "factor": factor}
            original = self._number("rope.scaling.original_context_length")
            if original is not None and kind != "linear":
                scaling["original_max_position_embeddings"] = original
            fields["rope_scaling"] = scaling
        return fields

    def _llama3(self, factors: list[float], config: Mapping[str, Any]) -> dict[str, Any]:
        """Find the numbers behind divided frequencies; formula: transformers' ``_compute_llama3_parameters``."""
        base, half = config["rope_theta"], len(factors)
        scaling = {"rope_type": "llama3", "factor": round(max(factors), 6), **_LLAMA3}
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        for index, factor in enumerate(factors):
            turns = scaling["original_max_position_embeddings"] / (2 * math.pi * base ** (index / half))
            share = min(max((turns - low) / (high - low), 0.0), 1.0)
            if not math.isclose(factor, 1 / ((1 - share) / scaling["factor"] + share), rel_tol=1e-3):
                raise self._error("rope_freqs.weight stretches positions in a way that is not known")
        return scaling

    def _number(self, key: str) -> Any:
        """Read a number; a list of one number a layer only where it is the same in all."""
        value = self._metadata.get(f"{self._name}.{key}")
        if isinstance(value, list) and value:
            if any(other != value[0] for other in value):
                raise self._error(f"{self._name}.{key} differs from layer to layer, which is not read")
            value = value[0]
        if value is not None and not isinstance(value, int | float):
            raise self._error(f"{self._name}.{key} must be a number, not {value!r:.40}")
        return _shortest(value) if isinstance(value, float) else value

    def _error(self, what: str) -> ZooError:
        return ZooError(f"{self._where}: {what}")


def _whole(value: Any) -> bool:
    return type(value) is int and value > 0


def _shortest(value: float) -> float:
    """Read a float32 as the shortest decimal that means it: 1e-05, not 9.999999747378752e-06."""
    if abs(value) < 1e38:
        for digits in range(1, 9):
            short = float(f"{value:.{digits}g}")
            if struct.pack("<f", short) == struct.pack("<f", value):
                return short
    return value
