"""Read ``config.json`` into numbers, and refuse by name what the decoder does not compute.

Keys, and what stands where a key is absent, are those of transformers' ``LlamaConfig``-like configurations.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from zoo.declarations.architecture import Architecture, RopeScaling
from zoo.errors import ZooError

log = logging.getLogger("zoo")

ACTIVATIONS = frozenset({"silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"})

_SIZES = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
    "max_position_embeddings",
)  # fmt: skip
_FLAGS = ("attention_bias", "mlp_bias", "tie_word_embeddings")
_DEFAULT_CONTEXT = 2048

# Keys that change what is computed, each with the values at which they change nothing.
_TRIVIAL: dict[str, tuple[Any, ...]] = {
    "quantization_config": (None,),
    "partial_rotary_factor": (None, 1, 1.0),
    "rotary_pct": (None, 1, 1.0),
    "sliding_window": (None, 0),
    "attn_logit_softcapping": (None, 0),
    "final_logit_softcapping": (None, 0),
    "query_pre_attn_scalar": (None,),
    "qk_norm": (None, False),
    "use_qk_norm": (None, False),
    "qk_layernorm": (None, False),
    "embedding_multiplier": (None, 1),
    "residual_multiplier": (None, 1),
    "attention_multiplier": (None,),
    "logits_scaling": (None, 1),
    "logit_scale": (None, 1),
    "num_experts": (None, 0, 1),
    "num_local_experts": (None, 0, 1),
    "n_routed_experts": (None, 0, 1),
    "alibi": (None, False),
    "parallel_attn": (None, False),
    "use_parallel_residual": (None, False),
    "is_encoder_decoder": (None, False),
    "add_cross_attention": (None, False),
    "clip_qkv": (None,),
    "rope_interleaved": (None, False),
    "rope_ratio": (None, 1),
    "no_rope_layers": (None, []),
    "attention_sink": (None, False),
}
_ROPE_KEYS = frozenset(RopeScaling.model_fields) | {"type", "rope_theta", "partial_rotary_factor"}

# Keys that carry nothing for the computation of logits.
_SILENT = frozenset(
    {
        *_SIZES, *_FLAGS, "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "rope_theta", "rope_scaling",
        "rope_parameters", "layer_types", "auto_map", "_name_or_path", "architectures", "model_type", "torch_dtype",
        "dtype", "transformers_version", "use_cache", "pretraining_tp", "initializer_range", "attention_dropout",
        "hidden_dropout", "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "unk_token_id",
        "max_sequence_length", "model_max_length", "max_length", "_attn_implementation_autoset",
        "_attn_implementation", "attn_implementation", "use_sliding_window", "max_window_layers",
        "tokenizer_class", "return_dict", "output_attentions", "output_hidden_states", "chunk_size_feed_forward",
        "id2label", "label2id", "problem_type", "task_specific_params", "finetuning_task", "gradient_checkpointing",
        "unsloth_version", "unsloth_fixed", "rope_interleave", "original_max_position_embeddings",
    }
)  # fmt: skip


def read_config(config: Mapping[str, Any]) -> Architecture:
    """Read a checkpoint's ``config.json``.

    Raises:
        ZooError: a number is missing or none, or a key says something that the decoder does not compute.
    """
    _refuse(config)
    numbers: dict[str, Any] = {name: _integer(config, name) for name in _SIZES if name in config}
    numbers.setdefault("max_position_embeddings", _DEFAULT_CONTEXT)
    for name in _SIZES:
        if name not in numbers:
            raise ZooError(f"config.json: {name} is missing")
    for name in ("num_key_value_heads", "head_dim"):
        if config.get(name) is not None:
            numbers[name] = _integer(config, name)
    for name in _FLAGS:
        value = config.get(name, False)
        if not isinstance(value, bool | None):
            raise ZooError(f"config.json: {name} must be true or false, not {_shown(value)}")
        numbers[name] = bool(value)
    numbers["rms_norm_eps"] = _number(config, "rms_norm_eps", 1e-6)
    activation = config.get("hidden_act", "silu")
    if activation not in ACTIVATIONS:
        raise ZooError(
            f"config.json: hidden_act {_shown(activation)} is not computed; known: {', '.join(sorted(ACTIVATIONS))}"
        )
    numbers["hidden_act"] = "silu" if activation == "swish" else activation
    numbers |= _rope(config, numbers["max_position_embeddings"])
    try:
        return Architecture.model_validate(numbers)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ZooError(f"config.json: {f'{where}: ' if where else ''}{message}") from None


def _refuse(config: Mapping[str, Any]) -> None:
    for name, trivial in _TRIVIAL.items():
        value = config.get(name)
        if name == "sliding_window" and config.get("use_sliding_window") is False:
            continue
        if not any(value is one or (type(value) is not bool and value == one) for one in trivial):
            if name == "sliding_window" and _covers(value, config):
                continue
            raise ZooError(f"config.json: {name} {_shown(value)} is not computed by this decoder")
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and any(kind != "full_attention" for kind in kinds):
        odd = next(kind for kind in kinds if kind != "full_attention")
        raise ZooError(f"config.json: layer_types {_shown(odd)} is not computed by this decoder")
    if config.get("auto_map"):
        log.warning("config.json names code of its own (auto_map); a checkpoint's code is never run")
    unknown = sorted(
        name
        for name, value in config.items()
        if name not in _SILENT and name not in _TRIVIAL and value not in (None, False, 0, "", [], {})
    )
    if unknown:
        log.warning("config.json: keys that are not known are not used: %s", ", ".join(unknown)[:300])


def _covers(window: Any, config: Mapping[str, Any]) -> bool:
    """Tell whether a sliding window is as wide as the context, so that it hides nothing."""
    context = config.get("max_position_embeddings")
    return isinstance(window, int) and isinstance(context, int) and window >= context


def _rope(config: Mapping[str, Any], context: int) -> dict[str, Any]:
    """Read rotary base and scaling from the newer ``rope_parameters``, or ``rope_theta`` and ``rope_scaling``."""
    theta = _number(config, "rope_theta", 10000.0)
    newer, older = config.get("rope_parameters"), config.get("rope_scaling")
    where = "rope_parameters" if newer is not None else "rope_scaling"
    stated = newer if newer is not None else older
    if stated is None:
        return {"rope_theta": theta}
    if not isinstance(stated, dict):
        raise ZooError(f"config.json: {where} must be an object, not {_shown(stated)}")
    if stated.get("rope_theta") is not None:
        theta = _number(stated, "rope_theta", theta)
    kind = stated.get("rope_type", stated.get("type", "default"))
    if stated.get("partial_rotary_factor") not in (None, 1, 1.0):
        raise ZooError(f"config.json: {where}: partial_rotary_factor is not computed by this decoder")
    if kind in ("default", None):
        return {"rope_theta": theta}
    if kind not in ("linear", "dynamic", "llama3", "yarn"):
        raise ZooError(f"config.json: {where}: rope_type {_shown(kind)} is not computed by this decoder")
    unknown = sorted(set(stated) - _ROPE_KEYS)
    if unknown:
        raise ZooError(f"config.json: {where}: {unknown[0]} is not computed by this decoder")
    fields = {name: stated[name] for name in RopeScaling.model_fields if stated.get(name) is not None}
    fields["rope_type"] = kind
    for name, value in fields.items():
        if name not in ("rope_type", "truncate"):
            _number(stated, name, 1.0)
    original = fields.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    if kind in ("yarn", "llama3"):
        fields["original_max_position_embeddings"] = original or context
        if kind == "yarn" and "factor" not in fields:
            fields["factor"] = context / fields["original_max_position_embeddings"]
    if "factor" not in fields:
        raise ZooError(f"config.json: {where}: factor is missing")
    if kind == "llama3":
        for name in ("low_freq_factor", "high_freq_factor"):
            if name not in fields:
                raise ZooError(f"config.json: {where}: {name} is missing")
        if fields["low_freq_factor"] <= 0 or fields["low_freq_factor"] >= fields["high_freq_factor"]:
            raise ZooError(f"config.json: {where}: low_freq_factor must be above 0 and below high_freq_factor")
    return {"rope_theta": theta, "rope_scaling": fields}


def _integer(config: Mapping[str, Any], name: str) -> int:
    value = config[name]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise ZooError(f"config.json: {name} must be a whole number above 0, not {_shown(value)}")
    return value


def _number(config: Mapping[str, Any], name: str, default: float) -> float:
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ZooError(f"config.json: {name} must be a number, not {_shown(value)}")
    if not 0 < value < 1e30 or not math.isfinite(value):
        raise ZooError(f"config.json: {name} must be a number above 0, not {_shown(value)}")
    return float(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
