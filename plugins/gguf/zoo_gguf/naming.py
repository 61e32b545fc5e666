"""What llama.cpp calls a model and its tensors, from what the model computes.

The table of names is the one that files are read by (``architectures.py``), the other way round. An architecture is
found by its numbers, not its name: whatever computes as llama does is llama there, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zoo import Architecture, Parameter, RowSlice, ZooError, interleaved
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
    ]
)
"""Numbers that every architecture of llama.cpp takes, or that say nothing about what is computed."""
_FIELDS = dict.fromkeys(("layer_norm_eps", "layer_norm_epsilon"), "rms_norm_eps")
"""Keys of ``config.json`` that are fields by another name."""
_BIASES = ("attention_bias", "mlp_bias", "qkv_bias")
_WINDOWS = ("sliding_window", "use_sliding_window", "layer_types")
_GEMMA = {"norm_offset": 1.0, "scale_embedding": True, "hidden_act": "gelu_pytorch_tanh"}
_CAPS = ("attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar")
_LAYER_NORM = {"norm": "layer", "norm_bias": True}
_GLM: dict[str, Any] = {"partial_rotary_factor": 0.5, "rotary_interleaved": True, "fused_gate_up": True}
COMPUTED: dict[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
    "qwen3": ({"qk_norm": True}, ()),
    "qwen2": ({"qkv_bias": True}, ()),
    "llama": ({}, _BIASES),
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
}
"""What each architecture that is written computes: what a model must state, and what it may beside ``_SHAPE``."""
_WINDOWED_AT = {"exaone4": 64}
"""So many layers have windows in llama.cpp, whatever a file says."""


def architecture_of(numbers: Architecture) -> str:
    """Name the architecture of llama.cpp that computes what these numbers say.

    Raises:
        ZooError: none that is written here does, with what differs.
    """
    if encoders.is_encoder(numbers):
        return encoders.require(numbers)
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
        f"an architecture beside llama.cpp's {', '.join(sorted(COMPUTED))}, since this model's {', '.join(odd)} "
        "is computed by none of them"
    )


def _in_order(name: str, numbers: Architecture) -> bool:
    """Tell whether layers differ as llama.cpp has them differ, and scores are scaled as it scales them."""
    known, layers = ARCHITECTURES[name], range(1, numbers.num_hidden_layers + 1)
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


def tensor_name(parameter: Parameter, numbers: Architecture) -> str:
    """Name a tensor as llama.cpp does: ``model.layers.0.self_attn.q_proj.weight`` is ``blk.0.attn_q.weight``.

    Raises:
        ZooError: llama.cpp has no name for it.
    """
    known = _known(numbers)
    stem, _, kind = parameter.name.rpartition(".")
    names = {name: short for short, name in known.outside.items()}
    if parameter.layer is not None:
        at = f"{known.layers}.{parameter.layer}."
        names = {f"{at}{name}": f"blk.{parameter.layer}.{short}" for short, name in known.layer.items()}
    if stem not in names:
        raise ZooError(f"target 'gguf': llama.cpp has no name for the tensor {parameter.name!r}")
    return f"{names[stem]}.{kind}"


def tensor_names(numbers: Architecture) -> dict[str, str]:
    """List llama.cpp's names of all tensors, and what each is called in the checkpoint."""
    known = _known(numbers)
    stems = dict(known.outside)
    for index in range(numbers.num_hidden_layers):
        stems |= {f"blk.{index}.{short}": f"{known.layers}.{index}.{name}" for short, name in known.layer.items()}
    return {f"{short}.{kind}": f"{name}.{kind}" for short, name in stems.items() for kind in ("weight", "bias")}


def rearranged(parameter: Parameter, numbers: Architecture) -> Parameter:
    """Order the rows of q and k as llama.cpp wants them, pairs that positions turn side by side, and shift norms."""
    known = _known(numbers)
    module = parameter.name.split(".")[-2]
    if known.norm_offset and module.endswith("norm"):
        slices = tuple(replace(each, offset=known.norm_offset) for each in parameter.slices)
        return replace(parameter, slices=slices)
    count = {"q_proj": numbers.num_attention_heads, "k_proj": numbers.num_key_value_heads}.get(module, 0)
    if not count or not known.permuted:
        return parameter
    (whole,) = parameter.slices
    half = numbers.head_dim // 2
    pairs: list[RowSlice] = []
    for head in range(count):
        first = 2 * half * head
        halves = [
            RowSlice(whole.tensor, whole.tensor_shape, rows=range(start, start + half))
            for start in (first, first + half)
        ]
        pairs += interleaved(*halves, at=first)
    return replace(parameter, slices=tuple(pairs))


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
    return {key: value for key, value in stated.items() if value is not None}


def _known(numbers: Architecture) -> GgufArchitecture:
    name = architecture_of(numbers)
    if name == "chatglm" and numbers.qkv_layout == "apart":
        return VARIANTS[name][1]
    return ARCHITECTURES[name]
