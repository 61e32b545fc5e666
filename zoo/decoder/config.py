"""Read ``config.json`` into numbers, and refuse by name what the decoder does not compute.

What stands where a key is absent is what transformers puts there; sizes have no default.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from zoo.declarations.architecture import Architecture, RopeScaling
from zoo.declarations.intervals import MOST_LAYERS
from zoo.declarations.traits import Trait, fields_with
from zoo.decoder.windows import windows
from zoo.errors import ZooError

log = logging.getLogger("zoo")

ACTIVATIONS = frozenset(
    {"silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "relu", "relu2"}
)

_SIZES = fields_with(Architecture, Trait.REQUIRED)
_IMPLIED = frozenset(fields_with(Architecture, Trait.IMPLIED))
_CLAIMED = fields_with(Architecture, Trait.CLAIMED)
_DEFAULT_CONTEXT = 2048

# Keys that change what is computed, each with the values, besides null and false, at which they change nothing.
_TRIVIAL: dict[str, tuple[Any, ...]] = {
    "quantization_config": (),
    "rotary_pct": (1,),
    "rotary_percent": (1,),
    "position_embedding_type": ("rotary", "rope"),
    "alibi": (),
    "rope_interleave": (),
    "rope_interleaved": (),
    "rope_ratio": (1,),
    "attention_sink": (),
    "clip_qkv": (),
    "use_qk_norm": (),
    "qk_layernorm": (),
    "scale_emb": (1,),
    "scale_depth": (),
    "num_experts": (0, 1),
    "num_local_experts": (0, 1),
    "n_routed_experts": (0, 1),
    "decoder_sparse_step": (1,),
    "mlp_only_layers": ([],),
    "moe_layer_freq": (1,),
    "parallel_attn": (),
    "new_decoder_architecture": (),
    "num_ln_in_parallel_attn": (1,),
    "add_bias_linear": (),
    "apply_residual_connection_post_layernorm": (),
    "is_encoder_decoder": (),
    "add_cross_attention": (),
}
_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")
_ROPE_TYPES = ("linear", "dynamic", "llama3", "yarn", "longrope")
_LONG_ROPE = ("short_factor", "long_factor")
_ROPE_KEYS = frozenset(RopeScaling.model_fields) | {"type", "rope_theta", "partial_rotary_factor", "finetuned"}
_FALSY_IS_ABSENT = frozenset({"beta_fast", "beta_slow", "mscale", "mscale_all_dim"})

# Keys that carry nothing for the computation of logits.
_SILENT = frozenset(
    {
        *(Architecture.model_fields.keys() - {"type", "options"}), "hidden_activation", "rope_parameters", "auto_map",
        "_name_or_path", "architectures", "model_type", "torch_dtype",
        "dtype", "transformers_version", "use_cache", "pretraining_tp", "initializer_range", "attention_dropout",
        "hidden_dropout", "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "unk_token_id",
        "max_sequence_length", "model_max_length", "max_length", "_attn_implementation_autoset",
        "_attn_implementation", "attn_implementation", "max_window_layers",
        "tokenizer_class", "return_dict", "output_attentions", "output_hidden_states", "chunk_size_feed_forward",
        "id2label", "label2id", "problem_type", "task_specific_params", "finetuning_task", "gradient_checkpointing",
        "multi_query", "multi_query_attention", "post_layer_norm", "rmsnorm", "original_rope", "bias_dropout_fusion",
        "apply_query_key_layer_scaling", "attention_softmax_in_fp32", "fp32_residual_connection",
        "experts_per_token", "initial_context_length",
        "router_aux_loss_coef", "output_router_logits", "router_jitter_noise", "aux_loss_alpha", "seq_aux", "ep_size",
        "num_nextn_predict_layers", "qk_head_dim", "unsloth_version", "unsloth_fixed",
        "original_max_position_embeddings",
    }
)  # fmt: skip


def read_config(config: Mapping[str, Any], implied: Mapping[str, Any]) -> Architecture:
    """Read a checkpoint's ``config.json``.

    Args:
        implied: fields that hold where the file is silent, because they follow from its ``model_type``. Sliding windows
            are computed for types that imply something about them.

    Raises:
        ZooError: a number is missing or none, or a key says something that the decoder does not compute.
    """
    names: Mapping[str, str] = implied.get("config_names") or {}
    config = _experts_renamed(_renamed(config, names), implied)
    unsaid = _IMPLIED - names.keys()
    _contradicted(config, implied, unsaid)
    config = {**implied, **{name: value for name, value in config.items() if name not in unsaid}}
    _refuse(config, implied)
    numbers: dict[str, Any] = {name: _integer(config, name) for name in _SIZES if name in config}
    numbers.setdefault("max_position_embeddings", _DEFAULT_CONTEXT)
    for name in _SIZES:
        if name not in numbers:
            raise ZooError(f"config.json: {name} is missing")
    for name in fields_with(Architecture, Trait.DERIVED):
        if config.get(name) is not None:
            numbers[name] = _integer(config, name)
    for name in fields_with(Architecture, Trait.FLAG):
        value = config.get(name, False)
        if not isinstance(value, bool | None):
            raise ZooError(f"config.json: {name} must be true or false, not {_shown(value)}")
        numbers[name] = bool(value)
    numbers["rms_norm_eps"] = _number(config, "rms_norm_eps", 1e-6)
    if numbers["num_hidden_layers"] > MOST_LAYERS:
        raise ZooError(f"config.json: num_hidden_layers {numbers['num_hidden_layers']} is more than {MOST_LAYERS}")
    activation = config.get("hidden_act", "silu")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ZooError(
            f"config.json: hidden_act {_shown(activation)} is not supported; known: {', '.join(sorted(ACTIVATIONS))}"
        )
    numbers |= {name: config[name] for name in _IMPLIED if name in config}
    approximate = numbers.get("gelu_approximate") == "tanh"
    numbers["hidden_act"] = {"swish": "silu", "gelu": "gelu_pytorch_tanh" if approximate else "gelu"}.get(
        activation, activation
    )
    if config.get("hidden_activation") not in (None, numbers["hidden_act"]):
        stated = f"hidden_activation {_shown(config['hidden_activation'])} and hidden_act {_shown(activation)}"
        raise ZooError(f"config.json: {stated} contradict each other")
    numbers |= {name: config[name] for name in _CLAIMED if name in implied and config.get(name) is not None}
    numbers |= _rope(config, implied, numbers["max_position_embeddings"])
    arch = Architecture.of_config(numbers)
    return Architecture.of_config(numbers | windows(config, implied, arch.num_hidden_layers, arch.context_length))


def _renamed(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Put what a file states under another key where the field has its name."""
    renamed = {key: value for key, value in config.items() if key not in names.values()}
    return renamed | {field: config[key] for field, key in names.items() if key in config}


def _experts_renamed(config: dict[str, Any], implied: Mapping[str, Any]) -> dict[str, Any]:
    """Put the number of experts where the field has its name: which key states it changed with transformers 5."""
    stated = [name for name in _EXPERT_COUNTS if name in config]
    if "num_experts" not in implied or not stated:
        return config
    if len({repr(config[name]) for name in stated}) > 1:
        raise ZooError(f"config.json: {' and '.join(stated)} contradict each other")
    return {name: value for name, value in config.items() if name not in stated} | {"num_experts": config[stated[0]]}


def _refuse(config: Mapping[str, Any], implied: Mapping[str, Any]) -> None:
    """Stop at a key that says something else than what is computed; warn of keys that nobody knows."""
    elsewhere: dict[str, tuple[Any, ...]] = {
        name: (Architecture.model_fields[name].default, 0, []) for name in _CLAIMED if name not in implied
    }
    trivials = {name: trivial for name, trivial in _TRIVIAL.items() if name not in implied}
    for name, trivial in {**trivials, **elsewhere}.items():
        value = config.get(name)
        if value is None or value is False or _is_one_of(value, trivial):
            continue
        raise ZooError(f"config.json: {name} {_shown(value)} is not supported by this decoder")
    if config.get("auto_map"):
        log.warning("config.json names code of its own (auto_map); a checkpoint's code is never run")
    known = _SILENT | _TRIVIAL.keys()
    unknown = sorted(
        name for name, value in config.items() if name not in known and value not in (None, False, 0, "", [], {})
    )
    if unknown:
        log.warning("config.json: keys that are not known are not used: %s", _shortened(", ".join(unknown), 300))


def _is_one_of(value: Any, trivial: tuple[Any, ...]) -> bool:
    """Look for a value among others; true is not 1."""
    return any(isinstance(other, bool) == isinstance(value, bool) and other == value for other in trivial)


def _contradicted(config: Mapping[str, Any], implied: Mapping[str, Any], unsaid: frozenset[str]) -> None:
    """Stop at a key that says something else about a quirk than what follows from the type."""
    for name in sorted(unsaid & config.keys()):
        usual = implied.get(name, Architecture.model_fields[name].default)
        if config[name] is not None and config[name] != usual:
            raise ZooError(f"config.json: {name} {_shown(config[name])} is not supported by this decoder")


def _rope(config: Mapping[str, Any], implied: Mapping[str, Any], context: int) -> dict[str, Any]:
    """Read rotary base and scaling from the newer ``rope_parameters``, or ``rope_theta`` and ``rope_scaling``.

    Which one wins where both are there, and what stands for absent keys: transformers, ``modeling_rope_utils``.
    """
    theta = _number(config, "rope_theta", 10000.0)
    where = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    stated = config.get(where)
    if not stated:
        return {"rope_theta": theta}
    if not isinstance(stated, dict):
        raise ZooError(f"config.json: {where} must be an object, not {_shown(stated)}")
    if any(isinstance(value, dict) for value in stated.values()):
        return _by_layer(config, implied, stated, where, context)
    kind = stated.get("rope_type", stated.get("type")) or "default"
    if any(stated.get(name) is not None for name in _LONG_ROPE):
        kind = "longrope"  # early files name it su, some yarn
    if kind != "default" and kind not in _ROPE_TYPES:
        raise ZooError(f"config.json: {where}: rope_type {_shown(kind)} is not supported by this decoder")
    unknown = sorted(str(name) for name in stated.keys() - _ROPE_KEYS if stated[name] is not None)
    if unknown:
        raise ZooError(f"config.json: {where}: {_shortened(unknown[0])} is not supported by this decoder")
    numbers: dict[str, Any] = {"rope_theta": _number(stated, "rope_theta", theta, where)}
    if stated.get("partial_rotary_factor") not in (None, 1):
        if "partial_rotary_factor" not in implied:
            raise ZooError(f"config.json: {where}: partial_rotary_factor is not supported by this decoder")
        numbers["partial_rotary_factor"] = stated["partial_rotary_factor"]
    if kind != "default":
        numbers["rope_scaling"] = _scaling(config, stated, kind, where, context)
    return numbers


def _by_layer(
    config: Mapping[str, Any], implied: Mapping[str, Any], stated: Mapping[str, Any], where: str, context: int
) -> dict[str, Any]:
    """Read parameters that are stated by type of layer: those of sliding windows may have a base of their own."""
    if "rope_local_base_freq" not in implied or stated.keys() != {"full_attention", "sliding_attention"}:
        raise ZooError(f"config.json: {where} by type of layer is not supported by this decoder")
    whole, local = ({**config, where: stated[kind]} for kind in ("full_attention", "sliding_attention"))
    other = _rope(local, {}, context)
    if "rope_scaling" in other:
        raise ZooError(f"config.json: {where}: scaling in layers with a sliding window is not supported")
    return _rope(whole, implied, context) | {"rope_local_base_freq": other["rope_theta"]}


def _scaling(
    config: Mapping[str, Any], stated: Mapping[str, Any], kind: str, where: str, context: int
) -> dict[str, Any]:
    """Gather the numbers that a kind of scaling needs, and check that it has them."""
    fields: dict[str, Any] = {"rope_type": kind}
    for name in sorted(RopeScaling.model_fields.keys() - {"rope_type", "truncate", *_LONG_ROPE}):
        value = stated.get(name)
        if value is None or (name in _FALSY_IS_ABSENT and value == 0 and value is not False):
            continue
        if name == "original_max_position_embeddings":
            fields[name] = _integer(stated, name, where)
        else:
            fields[name] = _number(stated, name, 1.0, where)
    if not isinstance(stated.get("truncate"), bool | None):
        raise ZooError(f"config.json: {where}: truncate must be true or false, not {_shown(stated['truncate'])}")
    fields["truncate"] = stated.get("truncate") is not False
    if kind == "longrope":
        fields |= {name: _divisors(stated, name, where) for name in _LONG_ROPE}
    if kind in ("yarn", "llama3", "longrope"):
        if config.get("original_max_position_embeddings") is not None:
            fields["original_max_position_embeddings"] = _integer(config, "original_max_position_embeddings")
        if kind != "longrope":
            fields.setdefault("original_max_position_embeddings", context)
        elif "original_max_position_embeddings" not in fields:
            raise ZooError(f"config.json: {where}: original_max_position_embeddings is missing")
    if kind in ("yarn", "longrope"):
        fields.setdefault("factor", context / fields["original_max_position_embeddings"])
    needed = ("factor", "low_freq_factor", "high_freq_factor") if kind == "llama3" else ("factor",)
    for name in needed:
        if name not in fields:
            raise ZooError(f"config.json: {where}: {name} is missing")
    if kind == "llama3" and fields["low_freq_factor"] >= fields["high_freq_factor"]:
        raise ZooError(f"config.json: {where}: low_freq_factor must be below high_freq_factor")
    if fields["factor"] * max(context, fields.get("original_max_position_embeddings", 0)) >= 2**31:
        raise ZooError(f"config.json: {where}: factor {_shown(fields['factor'])} gives no usable context")
    return fields


def _divisors(stated: Mapping[str, Any], name: str, where: str) -> tuple[float, ...]:
    values = stated.get(name)
    if not isinstance(values, list) or not values:
        raise ZooError(f"config.json: {where}: {name} must be a list of numbers, not {_shown(values)}")
    return tuple(_number({name: value}, name, 0.0, where) for value in values)


def _integer(values: Mapping[str, Any], name: str, where: str = "") -> int:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise ZooError(f"config.json: {_at(where)}{name} must be a whole number above 0, not {_shown(value)}")
    return value


def _number(values: Mapping[str, Any], name: str, default: float, where: str = "") -> float:
    value = values.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
        raise ZooError(f"config.json: {_at(where)}{name} must be a number above 0, not {_shown(value)}")
    return float(value)


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _shown(value: Any) -> str:
    return _shortened(repr(value))


def _shortened(text: str, length: int = 60) -> str:
    """Keep a message on one line, and short."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."
