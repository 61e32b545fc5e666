"""What the fields of an architecture say of themselves."""

from __future__ import annotations

from zoo.declarations.architecture import Architecture
from zoo.declarations.recipe import Recipe
from zoo.declarations.traits import Trait, fields_with, nullable_fields


def test_what_shapes_tensors_is_said_at_the_fields():
    assert set(fields_with(Architecture, Trait.SHAPES)) == {
        "attention_bias", "first_k_dense_replace", "head_dim", "hidden_size", "intermediate_size", "kv_lora_rank",
        "mlp_bias", "moe_intermediate_size", "n_shared_experts", "num_attention_heads", "num_experts",
        "shared_expert_intermediate_size",
        "num_hidden_layers", "num_key_value_heads", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim",
        "tie_word_embeddings", "v_head_dim", "vocab_size",
    }  # fmt: skip


def test_what_no_config_states():
    implied = {
        "attention_sinks", "experts_bias", "experts_in_turn", "swiglu_offset",
        "config_names", "expert_projections", "fused_experts", "fused_gate_up", "gated_mlp", "gelu_approximate",
        "moe_block", "norm", "norm_bias", "norm_offset", "norm_placement", "normalized_head", "positions",
        "qk_norm", "qk_norm_over", "qkv_bias", "qkv_layout", "rope_layers", "rotary_interleaved",
        "scale_embedding", "tensor_names", "verify_as",
    }  # fmt: skip
    assert set(fields_with(Architecture, Trait.IMPLIED)) == implied
    assert set(fields_with(Architecture, Trait.CLAIMED)) == {
        "attention_multiplier", "attn_logit_softcapping", "embedding_multiplier", "final_logit_softcapping",
        "first_k_dense_replace", "kv_lora_rank", "logit_scale", "logits_scaling", "moe_intermediate_size",
        "n_group", "n_shared_experts", "no_rope_layer_interval", "no_rope_layers", "norm_topk_prob", "num_experts",
        "num_experts_per_tok", "partial_rotary_factor", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim",
        "query_pre_attn_scalar", "residual_multiplier", "rope_local_base_freq", "routed_scaling_factor",
        "shared_expert_intermediate_size", "swiglu_alpha", "swiglu_limit",
        "scoring_func", "sliding_window_pattern", "topk_group", "topk_method", "use_parallel_residual",
        "v_head_dim",
    }  # fmt: skip
    assert set(fields_with(Architecture, Trait.PER_LAYER)) == {
        "layer_types", "no_rope_layers",
    }  # fmt: skip
    assert set(fields_with(Architecture, Trait.WINDOW)) == {
        "sliding_window", "use_sliding_window",
    }  # fmt: skip


def test_null_is_a_value_only_where_the_type_says_so():
    assert nullable_fields(Architecture) == {
        "attention_multiplier", "attn_logit_softcapping", "final_logit_softcapping", "kv_lora_rank", "layer_types",
        "moe_intermediate_size", "n_shared_experts", "no_rope_layer_interval", "no_rope_layers", "num_experts",
        "q_lora_rank", "query_pre_attn_scalar", "rope_local_base_freq", "rope_scaling", "sliding_window",
        "sliding_window_pattern", "verify_as", "shared_expert_intermediate_size", "swiglu_limit", "built_context",
    }  # fmt: skip


def test_layers_of_every_kind_take_turns():
    numbers = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "vocab_size": 8}
    arch = Architecture(
        **numbers, num_hidden_layers=4, max_position_embeddings=8, sliding_window=4,
        layer_types=("full_attention", "sliding_attention", "sliding_attention", "full_attention"),
        no_rope_layers=(1, 1, 0, 1),
    )  # fmt: skip
    assert arch.layer_kinds == 3
    more = arch.with_layers(5)
    assert more.layer_types == ("full_attention", *["sliding_attention"] * 2, "full_attention", "sliding_attention")
    assert more.no_rope_layers == (1, 1, 0, 1, 1)
    assert [more.turns(layer) for layer in range(5)] == [True, True, False, True, True]
    assert Architecture.model_validate(more.model_dump()) == more


def test_what_was_added_later_enters_the_hash_only_where_it_is_used():
    recipe = Recipe.model_validate({
        "model": "m", "licence": {"id": "mit"}, "weights": {"hub": "me/m", "revision": "0" * 40},
        "architecture": {
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 64,
        },
        "precision": "int8", "quantizer": {"name": "rtn"}, "target": {"name": "ort"},
    })  # fmt: skip
    # A package that stands in somebody's zoo names this hash: no new field may change it.
    assert recipe.hash == "0058163bc8ca452ec2868fdab53c7d6a97210b3ee31631df2b8ca53b55423c56"
    odd = recipe.architecture.model_copy(update={"attention_sinks": True})
    assert recipe.model_copy(update={"architecture": odd}).hash != recipe.hash
