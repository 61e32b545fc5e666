"""How a model may be split, by its own numbers, each rule with its reason.

The rules are those by which vLLM lays out a decoder. The GPUs of a tensor parallel group get attention heads, columns
of the MLP and, after it was padded to a multiple of 64, vocabulary in equal parts; KV heads too, or each is copied to
equally many of them. The stages of the pipeline get layers, each at least one.
"""

from __future__ import annotations

from collections.abc import Iterator

from zoo import Architecture, ZooError
from zoo_vllm.options import VllmOptions

VOCABULARY_STEP = 64
"""The vocabulary is padded to a multiple of it before it is split."""
MOST = 64
"""Sizes up to this one are offered."""


def broken_tensor_parallel(architecture: Architecture, tp: int) -> Iterator[str]:
    """Name every rule that a tensor parallel size breaks, with the reason."""
    heads, groups = architecture.num_attention_heads, architecture.num_key_value_heads
    if heads % tp:
        yield f"tp {tp} does not divide the {heads} attention heads, which are dealt out whole to the GPUs"
    if groups >= tp and groups % tp:
        yield f"tp {tp} does not divide the {groups} KV heads, which are dealt out whole to the GPUs"
    elif groups < tp and tp % groups:
        yield f"tp {tp} is not a multiple of the {groups} KV heads, each of which is copied to equally many GPUs"
    width = architecture.intermediate_size
    if width % tp:
        yield f"tp {tp} does not divide the intermediate size {width}, whose columns are split evenly"
    padded = -(-architecture.vocab_size // VOCABULARY_STEP) * VOCABULARY_STEP
    if padded % tp:
        yield f"tp {tp} does not divide the vocabulary, padded to {padded} tokens, which is split evenly"


def tensor_parallel_sizes(architecture: Architecture) -> list[int]:
    """List the sizes that a model can be split into."""
    most = min(architecture.num_attention_heads, MOST)
    return [size for size in range(1, most + 1) if not any(broken_tensor_parallel(architecture, size))]


def check(target: str, architecture: Architecture, options: VllmOptions) -> None:
    """Refuse options that do not fit the model.

    Raises:
        ZooError: the first rule that is broken, why it is one, and what would do.
    """
    for reason in broken_tensor_parallel(architecture, options.tp):
        sizes = ", ".join(map(str, tensor_parallel_sizes(architecture)))
        raise ZooError(f"{target}: {reason}; tp may be {sizes}")
    layers = architecture.num_hidden_layers
    if options.pp > layers:
        raise ZooError(
            f"{target}: pp {options.pp} is more than the {layers} layers, of which each stage of the pipeline takes at "
            f"least one; pp may be 1 to {layers}"
        )
    context = architecture.max_position_embeddings
    if options.max_model_len is not None and options.max_model_len > context:
        raise ZooError(
            f"{target}: max_model_len {options.max_model_len} is longer than the context of {context} tokens "
            "(max_position_embeddings), past which the model has no positions"
        )
