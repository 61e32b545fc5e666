"""What llama.cpp calls a model and its tensors, from what the model computes.

The table of names is the one that files are read by (``architectures.py``), the other way round. An architecture is
found by its numbers, not its name: whatever computes as llama does is llama there, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from zoo import Architecture, Parameter, RopeScaling, RowSlice, ZooError, interleaved, stacked
from zoo_gguf import encoders
from zoo_gguf.architectures import ARCHITECTURES, NUMBERS, VARIANTS, GgufArchitecture

_SHAPE = frozenset(
    [
        *(
            "type",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
        ),
        *("head_dim", "vocab_size", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling"),
        *("tie_word_embeddings", "sliding_window_pattern", "no_rope_layer_interval", "verify_as", "config_names"),
        "built_context",
    ]
)
"""Numbers that every architecture of llama.cpp takes, or that say nothing about what is computed."""
_FIELDS = {"layer_norm_eps": "rms_norm_eps", "layer_norm_epsilon": "rms_norm_eps", "num_local_experts": "num_experts",
           "n_routed_experts": "num_experts"}  # fmt: skip
"""Keys of ``config.json`` that are fields by another name."""
_BIASES = ("attention_bias", "mlp_bias", "qkv_bias")
_WINDOWS = ("sliding_window", "use_sliding_window", "layer_types")
_GEMMA = {"norm_offset": 1.0, "scale_embedding": True, "hidden_act": "gelu_pytorch_tanh"}
_CAPS = ("attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar")
_ROUTED = ("num_experts", "num_experts_per_tok", "moe_intermediate_size")
_LATENT = (
    *("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", *_ROUTED),
    *("norm_topk_prob", "routed_scaling_factor", "first_k_dense_replace", "n_shared_experts"),
    *("scoring_func", "topk_method", "n_group", "topk_group"),
)
_LAYER_NORM = {"norm": "layer", "norm_bias": True}
_GLM: dict[str, Any] = {"partial_rotary_factor": 0.5, "rotary_interleaved": True, "fused_gate_up": True}
COMPUTED: dict[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
    "qwen3": ({"qk_norm": True}, ()),
    "qwen2": ({"qkv_bias": True}, ()),
    "qwen3moe": ({"qk_norm": True, "moe_block": "mlp"}, _ROUTED),
    "llama": ({}, (*_BIASES, *_ROUTED, "moe_block", "expert_projections")),
    "internlm2": ({"qkv_layout": "grouped"}, ("tensor_names",)),
    "baichuan": ({"qkv_layout": "stacked"}, ("tensor_names", "normalized_head", "positions")),
    "gemma": (_GEMMA, ("gelu_approximate",)),
    "gemma2": ({**_GEMMA, "norm_placement": "around"}, (*_WINDOWS, *_CAPS)),
    "gemma3": ({**_GEMMA, "norm_placement": "around", "qk_norm": True}, (*_WINDOWS, *_CAPS, "rope_local_base_freq")),
    "phi3": ({"qkv_layout": "stacked", "fused_gate_up": True}, ("partial_rotary_factor",)),
    "stablelm": (_LAYER_NORM, ("partial_rotary_factor", "qkv_bias")),
    "olmo2": ({"norm_placement": "after", "qk_norm": True, "qk_norm_over": "all heads"}, ()),
    "exaone4": ({"norm_placement": "after", "qk_norm": True}, (*_WINDOWS, "rope_layers")),
    "smollm3": ({}, ("no_rope_layers", *_BIASES)),
    "granite": (
        {},
        ("attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling", *_BIASES),
    ),
    "chatglm": (_GLM, ("qkv_bias", "qkv_layout", "tensor_names")),
    "falcon": (
        {
            **_LAYER_NORM,
            "use_parallel_residual": True,
            "gated_mlp": False,
            "qkv_layout": "stacked",
            "hidden_act": "gelu",
        },
        ("tensor_names",),
    ),
    "deepseek2": ({"rotary_interleaved": True}, _LATENT),
}
"""What each architecture that is written computes: what a model must state, and what it may beside ``_SHAPE``."""
_WINDOWED_AT = {"exaone4": 64}
"""So many layers have windows in llama.cpp, whatever a file says."""
_DIRECT_QUERIES = (26, 27)
"""With so many layers llama.cpp makes queries of a latent model without ``q_lora_rank``."""


def architecture_of(numbers: Architecture) -> str:
    """Name the architecture of llama.cpp that computes what these numbers say.

    Raises:
        ZooError: none that is written here does, with what differs.
    """
    if encoders.is_encoder(numbers):
        return encoders.require(numbers)
    if numbers.kv_lora_rank is not None:
        _require_latent(numbers)
    departs = frozenset(
        name
        for name, field in Architecture.model_fields.items()
        if name not in _SHAPE and getattr(numbers, name) != field.get_default(call_default_factory=True)
    )
    if numbers.sliding_window is not None and not numbers.use_sliding_window:
        departs -= {"sliding_window", "layer_types"}
    if not numbers.qk_norm:
        departs -= {"qk_norm_over"}
    for name, (must, may) in COMPUTED.items():
        stated = all(getattr(numbers, field) == value for field, value in must.items())
        if stated and departs <= {*must, *may} and _in_order(name, numbers):
            return name
    odd = sorted(departs - {"qkv_bias", "qk_norm", *_BIASES}) or sorted(departs)
    raise ZooError(
        f"an architecture that llama.cpp has: none of {', '.join(sorted(COMPUTED))} computes this model's "
        f"{', '.join(odd)}"
    )


def _require_latent(numbers: Architecture) -> None:
    """Refuse attention over a latent with what llama.cpp computes beside it in another way, or not at all.

    Source: llama.cpp's ``src/models/deepseek2.cpp``, and ``build_moe_ffn`` of ``src/llama-graph.cpp``.
    """
    layers, what = numbers.num_hidden_layers, "attention over a latent (MLA)"
    if numbers.topk_method == "group_limited_greedy" and numbers.n_group > 1:
        raise ZooError("groups of experts ranked by their best one: llama.cpp ranks them by the sum of their best two")
    if not (numbers.num_experts and numbers.n_shared_experts):
        raise ZooError(f"{what} without routed and shared experts, which llama.cpp's deepseek2 has")
    scaling = numbers.rope_scaling
    if scaling is not None and scaling.rope_type == "yarn":
        one, other = scaling.mscale, scaling.mscale_all_dim
        if one != other or not other or scaling.attention_factor or not scaling.truncate:
            raise ZooError(f"{what} with YaRN's mscale {one} and mscale_all_dim {other}, not one number")
    if numbers.q_lora_rank is None and layers not in _DIRECT_QUERIES:
        raise ZooError(f"{what} with {layers} layers and no q_lora_rank: llama.cpp takes that of 26 or 27 layers alone")


def _in_order(name: str, numbers: Architecture) -> bool:
    """Tell whether layers differ as llama.cpp has them differ, and scores are scaled as it scales them."""
    known, layers = ARCHITECTURES[name], range(1, numbers.num_hidden_layers + 1)
    if known.latent != (numbers.kv_lora_rank is not None):
        return False
    if name == "llama" and numbers.num_experts and numbers.moe_block != "block_sparse_moe":
        return False
    if (numbers.positions == "alibi") != (known.alibi_at == len(layers)):
        return False
    whole = [numbers.window(layer - 1) is None for layer in layers]
    if numbers.use_sliding_window:
        if not known.window_every or _WINDOWED_AT.get(name, len(layers)) != len(layers):
            return False
        if whole != [layer % known.window_every == 0 for layer in layers]:
            return False
    if numbers.no_rope_layers is not None:
        every = known.rope_every or len(layers) + 1
        if [bool(turns) for turns in numbers.no_rope_layers] != [layer % every != 0 for layer in layers]:
            return False
    elif known.rope_every:
        return False
    if not known.wide_from:
        return True
    wide = len(layers) >= known.wide_from
    width = numbers.hidden_size // numbers.num_attention_heads if wide else numbers.head_dim
    return (numbers.query_pre_attn_scalar or numbers.head_dim) == width


def _in_layer(known: GgufArchitecture) -> dict[str, str]:
    """List the tensors of a layer, and what each is called here: parts and experts by names of our own."""
    together = {short: name.replace("{}", "*") for short, name in known.experts.items()}
    apart = {part: f"{whole}.{part}" for whole, joined in known.joined.items() for part in joined.parts}
    return {**known.layer, **together, **apart}


def tensor_names(numbers: Architecture) -> dict[str, str]:
    """List llama.cpp's names of all tensors, and what each is called in the checkpoint: ``blk.0.attn_q.weight`` is
    ``model.layers.0.self_attn.q_proj.weight``.
    """
    known = _known(numbers)
    stems = dict(known.outside)
    for index in range(numbers.num_hidden_layers):
        stems |= {f"blk.{index}.{short}": f"{known.layers}.{index}.{name}" for short, name in _in_layer(known).items()}
    names = {f"{short}.{kind}": f"{name}.{kind}" for short, name in stems.items() for kind in ("weight", "bias")}
    return names | {short: name for short, name in stems.items() if short.endswith(".bias")}


def rearranged(parameters: Sequence[Parameter], numbers: Architecture) -> Iterator[Parameter]:
    """Order the rows of q and k as llama.cpp wants them, pairs that positions turn side by side; shift norms; take what
    it has apart out of one tensor, and put all experts of a layer in one.
    """
    known, heads, groups = _known(numbers), numbers.num_attention_heads, numbers.num_key_value_heads
    experts: dict[str, list[Parameter]] = {}
    for parameter in parameters:
        if (whole := _of_all(parameter, known)) is not None:
            experts.setdefault(whole, []).append(parameter)
    for parameter in parameters:
        stem, module = parameter.name.removesuffix(".weight"), parameter.name.split(".")[-2]
        if (whole := _of_all(parameter, known)) is not None:
            if each := experts.pop(whole, None):
                slices = stacked(*(expert.slices[0] for expert in each))
                yield replace(parameter, name=whole, slices=slices, experts=len(each))
        elif known.latent and module == "kv_b_proj":
            yield from _keys_and_values(parameter, numbers)
        elif joined := known.joined.get(stem.partition(f".{parameter.layer}.")[2]):
            count = groups if joined.groups else 1
            sizes, before = [heads // count, groups // count, groups // count], 0
            for part, size in zip(joined.parts, sizes, strict=True):
                firsts = [group * sum(sizes) + before + at for group in range(count) for at in range(size)]
                slices = _heads(parameter, numbers, firsts, permuted=known.permuted and part != joined.parts[-1])
                yield replace(parameter, name=f"{stem}.{part}.weight", slices=slices)
                before += size
        elif known.norm_offset and module.endswith("norm"):
            yield replace(parameter, slices=tuple(replace(each, offset=known.norm_offset) for each in parameter.slices))
        elif known.permuted and module in ("q_proj", "k_proj"):
            every = range(heads if module == "q_proj" else groups)
            yield replace(parameter, slices=_heads(parameter, numbers, every, permuted=True))
        elif numbers.normalized_head and parameter.role == "lm_head":
            yield replace(parameter, slices=tuple(replace(each, unit=True) for each in parameter.slices))
        else:
            yield parameter


def _keys_and_values(parameter: Parameter, numbers: Architecture) -> Iterator[Parameter]:
    """Take the keys and the values of each head apart: keys as (heads, latent, size), values as (heads, size, latent).

    llama.cpp multiplies queries by the former, so that its cache holds the latent alone.
    """
    (whole,), heads = parameter.slices, numbers.num_attention_heads
    keys, values = numbers.qk_nope_head_dim, numbers.v_head_dim
    starts = range(0, heads * (keys + values), keys + values)
    apart = {
        "attn_k_b": [replace(whole, rows=range(at, at + keys), transposed=True) for at in starts],
        "attn_v_b": [replace(whole, rows=range(at + keys, at + keys + values)) for at in starts],
    }
    for part, slices in apart.items():
        name = parameter.name.replace(".weight", f".{part}.weight")
        yield replace(parameter, name=name, slices=stacked(*slices), experts=heads)


def _heads(
    parameter: Parameter, numbers: Architecture, heads: Iterable[int], *, permuted: bool
) -> tuple[RowSlice, ...]:
    """Take heads of a tensor, by their places in it; the two halves of each row by row in turn where permuted."""
    (whole,) = parameter.slices
    size, slices = numbers.head_dim, list[RowSlice]()
    for at, head in enumerate(heads):
        step = size // 2 if permuted else size
        parts = [replace(whole, rows=range(row, row + step)) for row in range(head * size, (head + 1) * size, step)]
        slices += interleaved(*parts, at=at * size)
    return tuple(slices)


def _of_all(parameter: Parameter, known: GgufArchitecture) -> str | None:
    """Name the tensor of all experts that an expert's is a part of, with a star for its number."""
    for name in known.experts.values():
        begin, _, end = f"{known.layers}.{parameter.layer}.{name}.weight".partition("{}")
        number = parameter.name.removeprefix(begin).removesuffix(end)
        if begin + number + end == parameter.name and number.isdecimal() and not name.endswith("norms.{}"):
            return f"{begin}*{end}"
    return None


def numbers_of(numbers: Architecture) -> dict[str, Any]:
    """Make the keys behind the architecture's name."""
    known = _known(numbers)
    stated: dict[str, Any] = {
        key: getattr(numbers, _FIELDS.get(name, name), None) for key, name in {**NUMBERS, **known.numbers}.items()
    }
    stated |= {
        "context_length": numbers.context_length,
        "attention.value_length": numbers.head_dim,
        "rope.dimension_count": numbers.turning,
        "vocab_size": numbers.vocab_size,
    }
    if numbers.kv_lora_rank is not None:
        stated |= _latent_numbers(numbers, numbers.kv_lora_rank)
    return {key: value for key, value in stated.items() if value is not None}


def _latent_numbers(numbers: Architecture, latent: int) -> dict[str, Any]:
    """State one KV head, made of the latent and of what positions turn, and how experts are chosen."""
    greedy, turned = numbers.topk_method == "greedy", numbers.qk_rope_head_dim
    return {
        "attention.head_count_kv": 1,
        "attention.key_length": latent + turned,
        "attention.value_length": latent,
        "attention.key_length_mla": numbers.qk_nope_head_dim + turned,
        "attention.value_length_mla": numbers.v_head_dim,
        "expert_gating_func": 2 if numbers.scoring_func == "sigmoid" else 1,
        "expert_group_count": 1 if greedy else numbers.n_group,
        "expert_group_used_count": 1 if greedy else numbers.topk_group,
    }


def yarn(scaling: RopeScaling) -> dict[str, Any]:
    """State YaRN as llama.cpp's deepseek2 reads it: a tenth of ``mscale_all_dim``, which ``mscale`` equals."""
    stated = {
        "type": "yarn",
        "factor": float(scaling.factor),
        "original_context_length": scaling.original_max_position_embeddings,
        "yarn_beta_fast": scaling.beta_fast,
        "yarn_beta_slow": scaling.beta_slow,
        "yarn_log_multiplier": 0.1 * (scaling.mscale_all_dim or 0.0),
    }
    return {f"rope.scaling.{key}": value for key, value in stated.items() if value is not None}


def _known(numbers: Architecture) -> GgufArchitecture:
    name = architecture_of(numbers)
    if (name == "chatglm" and numbers.qkv_layout == "apart") or (name == "llama" and numbers.num_experts):
        return VARIANTS[name][1]
    return ARCHITECTURES[name]
