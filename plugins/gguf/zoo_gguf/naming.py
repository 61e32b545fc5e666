"""What llama.cpp calls a model and its tensors, from what the model computes.

The table of names is the one that files are read by (``architectures.py``), the other way round. An architecture is
found by its numbers, not its name: whatever computes as llama does is llama there, too.
"""

from __future__ import annotations

from zoo import Architecture, Parameter, RowSlice, ZooError, interleaved
from zoo_gguf import encoders
from zoo_gguf.architectures import ARCHITECTURES, GgufArchitecture

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
_OWN = {
    "llama": frozenset({"attention_bias", "mlp_bias", "qkv_bias"}),
    "qwen2": frozenset({"qkv_bias"}),
    "qwen3": frozenset({"qk_norm"}),
}
"""What each architecture computes beyond that."""


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
    for name in ("qwen3", "qwen2", "llama"):
        if departs == _OWN[name] or (name == "llama" and departs <= _OWN[name]):
            return name
    odd = sorted(departs - frozenset().union(*_OWN.values())) or sorted(departs)
    raise ZooError(
        f"an architecture beside llama.cpp's {', '.join(sorted(_OWN))}, since this model's {', '.join(odd)} "
        "is computed by none of them"
    )


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
    """Order the rows of q and k as llama.cpp wants them: the pairs that positions turn side by side."""
    heads = {"q_proj": numbers.num_attention_heads, "k_proj": numbers.num_key_value_heads}
    count = heads.get(parameter.name.split(".")[-2], 0)
    if not count or not _known(numbers).permuted:
        return parameter
    (whole,) = parameter.slices
    half = numbers.head_dim // 2
    slices: list[RowSlice] = []
    for head in range(count):
        first = 2 * half * head
        halves = [
            RowSlice(whole.tensor, whole.tensor_shape, rows=range(start, start + half))
            for start in (first, first + half)
        ]
        slices += interleaved(*halves, at=first)
    return Parameter(parameter.name, parameter.kind, tuple(slices), parameter.layer, parameter.role)


def _known(numbers: Architecture) -> GgufArchitecture:
    return ARCHITECTURES[architecture_of(numbers)]
