"""The ``config.json`` that a GGUF file's metadata amounts to."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Collection, Mapping
from typing import Any

from zoo import ZooError
from zoo_gguf.architectures import ARCHITECTURES, NUMBERS, ROBERTA, VARIANTS, GgufArchitecture
from zoo_gguf.header import StoredTensor

_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""What every published model of this scaling states; a file keeps only the frequencies that follow."""

_SCORES = {1: "softmax", 2: "sigmoid"}
"""``llama_expert_gating_func_type``; files that were made before it was stated mean the first."""
_GROUPS = {160: (8, 3), 256: (8, 4)}
"""Experts → their groups, and those that a token may go through, in published models whose first files state none."""
_YARN = {"attn_factor": "attention_factor", "beta_fast": "beta_fast", "beta_slow": "beta_slow"}

_PADDING = 8
"""The highest id of padding that is believed: so many rows and one are put before a table of positions."""
_TOKENS = {"bos": "bos_token_id", "eos": "eos_token_id", "padding": "pad_token_id"}


def find_architecture(
    metadata: Mapping[str, Any], tensors: Collection[str], where: str
) -> tuple[str, GgufArchitecture]:
    """Look up what a file's architecture means, which a tensor may tell beside its name.

    Raises:
        ZooError: it names none, or one that is not read.
    """
    name = metadata.get("general.architecture")
    if not isinstance(name, str):
        raise ZooError(f"{where}: names no general.architecture")
    if name not in ARCHITECTURES:
        raise ZooError(f"{where}: architecture {name!r:.60} is not read; known: {', '.join(sorted(ARCHITECTURES))}")
    if name == "bert" and metadata.get("tokenizer.ggml.model") == "t5":
        return name, ROBERTA
    sign, variant = VARIANTS.get(name, ("", None))
    if variant is not None and any(f".{sign}." in tensor for tensor in tensors):
        return name, variant
    return name, ARCHITECTURES[name]


Factors = Callable[[str], list[float] | None]
"""Reads a table of what rotary frequencies are divided by, by its name; None where a file has none."""


def make_config(
    metadata: Mapping[str, Any], tensors: Mapping[str, StoredTensor], factors: Factors, where: str
) -> dict[str, Any]:
    """Make a ``config.json``.

    Args:
        metadata: the file's key-value pairs.
        tensors: by the file's names.
        factors: reads ``rope_freqs``, ``rope_factors_long`` and ``rope_factors_short``.
        where: the file, for messages.

    Raises:
        ZooError: metadata that contradicts itself or the tensors.
    """
    return _Config(metadata, tensors, where).make(factors)


class _Config:
    def __init__(self, metadata: Mapping[str, Any], tensors: Mapping[str, StoredTensor], where: str) -> None:
        self._name, self._arch = find_architecture(metadata, tensors, where)
        self._metadata, self._tensors, self._where = metadata, tensors, where

    def make(self, factors: Factors) -> dict[str, Any]:
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
        types = self._tensors.get("token_types.weight")
        if types is not None:
            config["type_vocab_size"] = types.shape[0]
            if self._metadata.get("tokenizer.ggml.model") == "gpt2":
                raise self._error("an encoder with a byte-level tokenizer, as RoBERTa's, which is not read")
        config["tie_word_embeddings"] = "output.weight" not in self._tensors
        config.setdefault("rope_theta", 10000.0)
        heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
        if _whole(heads) and _whole(hidden):
            config.setdefault("num_key_value_heads", heads)
            if hidden % heads == 0:
                config.setdefault("head_dim", hidden // heads)
        if arch.latent:
            config |= self._latent(config)
        config |= self._rope(factors, config)
        config |= self._layers(config)
        if arch.alibi_at and config.get("num_hidden_layers") == arch.alibi_at:
            config["model_max_length"] = config.pop("max_position_embeddings", None)
        if arch.bias is not None:
            config[arch.bias] = any(f"blk.0.{stem}.bias" in self._tensors for stem in ("attn_q", "attn_qkv"))
            config["mlp_bias"] = "blk.0.ffn_up.bias" in self._tensors
        if arch.head_norms is not None:
            config[arch.head_norms] = "blk.0.attn_q_norm.weight" in self._tensors
        for key, name in _TOKENS.items():
            config[name] = self._metadata.get(f"tokenizer.ggml.{key}_token_id")
        if arch.behind_padding:
            padding = 1 if config["pad_token_id"] is None else config["pad_token_id"]
            if not _whole(padding) or padding > _PADDING:
                raise self._error(f"its padding_token_id is {padding!r:.40}, not 1 to {_PADDING}")
            context = config.get("max_position_embeddings") or 512
            config |= {"pad_token_id": padding, "max_position_embeddings": context + padding + 1}
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

    def _latent(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """State the parts of heads that are made of a latent, and how experts are chosen."""
        turned = self._number("rope.dimension_count") or 0
        head = self._number("attention.key_length_mla") or self._number("attention.key_length") or 0
        value = self._number("attention.value_length_mla") or self._number("attention.value_length") or 0
        if not (_whole(turned) and _whole(head) and _whole(value) and turned < head):
            raise self._error(f"its heads have {head} values, of which positions turn {turned}, and {value} of a value")
        heads = {"head_dim": None, "num_key_value_heads": config.get("num_attention_heads")}
        parts = {"qk_nope_head_dim": head - turned, "qk_rope_head_dim": turned, "v_head_dim": value}
        gate = self._number("expert_gating_func") or 1
        if gate not in _SCORES:
            raise self._error(f"{self._name}.expert_gating_func is {gate}, which is not read; known: 1, 2")
        groups = {name: config.get(name) for name in ("n_group", "topk_group")}
        if None in groups.values():
            groups = dict(zip(groups, _GROUPS.get(config.get("n_routed_experts"), (1, 1)), strict=True))
        if config.get("topk_method") == "greedy" and groups["n_group"] != 1:
            groups["topk_method"] = "group_limited_greedy"
        return {**heads, **parts, "scoring_func": _SCORES[gate], **groups}

    def _rope(self, factors: Factors, config: Mapping[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        turned, head = self._number("rope.dimension_count"), config.get("head_dim")
        if _whole(turned) and _whole(head) and turned != head:
            if not self._arch.partial_rotary:
                raise self._error(f"positions turn {turned} of {head} values of a head, which {self._name} does not do")
            fields["partial_rotary_factor"] = turned / head
        kind = self._metadata.get(f"{self._name}.rope.scaling.type", "none")
        factor = self._number("rope.scaling.factor") or 1.0
        if (divisors := factors("rope_freqs")) is not None:
            fields["rope_scaling"] = self._llama3(divisors, config)
        elif any(name.startswith("rope_factors_") for name in self._tensors):
            lists = {f"{which}_factor": factors(f"rope_factors_{which}") for which in ("short", "long")}
            original = self._number("rope.scaling.original_context_length")
            stated = {"original_max_position_embeddings": original} if original else {}
            magnitude = self._number("rope.scaling.attn_factor")
            stated |= {} if magnitude is None else {"attention_factor": magnitude}
            fields["rope_scaling"] = {"rope_type": "longrope", **lists, **stated}
        elif kind not in ("none", "linear") or factor != 1.0:
            scaling: dict[str, Any] = {"rope_type": "linear" if kind == "none" else kind, "factor": factor}
            original = self._number("rope.scaling.original_context_length")
            if original is not None and kind != "linear":
                scaling["original_max_position_embeddings"] = original
            if kind == "yarn":
                stated = {name: self._number(f"rope.scaling.yarn_{key}") for key, name in _YARN.items()}
                scaling |= {name: value for name, value in stated.items() if value is not None}
                logarithm = self._number("rope.scaling.yarn_log_multiplier")
                if self._arch.latent and logarithm:  # a tenth of what config.json calls mscale_all_dim
                    scaling["mscale"] = scaling["mscale_all_dim"] = _shortest(float(logarithm) * 10)
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
