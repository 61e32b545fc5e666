"""Shrink a declared model to a size that tests can build, and keep everything about it that is a quirk."""

from __future__ import annotations

from dataclasses import replace

from zoo.declarations.architecture import Architecture, ArchitectureFields
from zoo.declarations.family import Tokens
from zoo.families import Families
from zoo.registry import DeclaredModel, Registry

VOCABULARY = 331
CONTEXT = 256
LAYERS = 2
WINDOW = 16
"""Shorter than the prompts of the tests, so that it hides something."""


def shrink(arch: Architecture) -> Architecture:
    """Make the numbers small: the same ratio of heads to KV heads, kind of head size, biases, tying and rotary.

    Sizes divide by nothing that kernels like: what works on them works on rounder ones.
    """
    group = arch.num_attention_heads // arch.num_key_value_heads
    kv_heads = min(arch.num_key_value_heads, 4 if group == 1 else 2)
    heads = kv_heads * group
    head_dim = arch.head_dim if arch.head_dim < 16 else 16 + arch.head_dim % 16
    hidden = heads * head_dim
    if arch.hidden_size != arch.num_attention_heads * arch.head_dim:
        hidden += 8 * heads
    scaling = arch.rope_scaling
    if scaling is not None and scaling.original_max_position_embeddings is not None:
        pairs = int(head_dim * arch.partial_rotary_factor) // 2
        fewer = {name: (getattr(scaling, name) or ())[-pairs:] or None for name in ("short_factor", "long_factor")}
        scaling = scaling.model_copy(update={"original_max_position_embeddings": CONTEXT // 4, **fewer})
    numbers = arch.with_layers(max(LAYERS, arch.layer_kinds)).model_dump()
    return Architecture.model_validate(
        numbers
        | {
            "hidden_size": hidden,
            "intermediate_size": 112,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "head_dim": head_dim,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": CONTEXT,
            "rope_scaling": scaling.model_dump() if scaling is not None else None,
            "sliding_window": arch.sliding_window and WINDOW,
        }
        | (_few_experts(arch) if arch.num_experts is not None else {})
        | (_narrow_latent(arch) if arch.kv_lora_rank is not None else {})
    )


def _narrow_latent(arch: Architecture) -> dict[str, int | None]:
    """Keep that keys are wider than values, and narrow latents."""
    return {
        "q_lora_rank": arch.q_lora_rank and 40,
        "kv_lora_rank": 48,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 16,
    }


def _few_experts(arch: Architecture) -> dict[str, int | None]:
    """Make eight experts in fewer groups, three of which serve a token."""
    return {
        "num_experts": 8,
        "num_experts_per_tok": min(arch.num_experts_per_tok, 3),
        "moe_intermediate_size": arch.moe_intermediate_size and 48,
        "n_shared_experts": arch.n_shared_experts and min(arch.n_shared_experts, 2),
        "n_group": min(arch.n_group, 4),
        "topk_group": min(arch.topk_group, 2),
    }


def with_numbers(registry: Registry, model: DeclaredModel, arch: Architecture) -> Registry:
    """Make a registry in which ``model`` is declared with these numbers, and everything else as it was.

    Token ids that the smaller vocabulary does not hold are left out, as a declaration may.
    """
    tokens = model.tokens
    ids = [tokens.bos_token_id, tokens.pad_token_id, *(tokens.eos_token_id or ()), *(tokens.added or {}).values()]
    fits = all(token_id is None or 0 <= token_id < arch.vocab_size for token_id in ids)
    fields = ArchitectureFields.model_validate(arch.model_dump())
    own = model.model.model_copy(update={"architecture": fields} | ({} if fits else {"tokens": _NO_TOKENS}))
    family = model.family.model_copy(
        update={"models": tuple(own if other.name == own.name else other for other in model.family.models)}
    )
    declared = replace(model.declared_in, family=family)
    return replace(registry, families=Families({**registry.families, family.name: declared}))


_NO_TOKENS = Tokens(bos_token_id=None, eos_token_id=None, pad_token_id=None, added=None, begin=None)
