"""What the fields of an architecture say of themselves."""

from __future__ import annotations

from zoo.declarations.architecture import Architecture
from zoo.declarations.traits import Trait, fields_with, nullable_fields


def test_what_shapes_tensors_is_said_at_the_fields():
    assert set(fields_with(Architecture, Trait.SHAPES)) == {
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "head_dim", "vocab_size", "attention_bias", "mlp_bias", "tie_word_embeddings",
    }  # fmt: skip


def test_what_no_config_states():
    implied = {
        "qkv_bias", "qk_norm", "scale_embedding", "norm_offset", "gelu_approximate", "norm", "norm_bias",
        "norm_placement", "gated_mlp", "qk_norm_over", "rotary_interleaved", "rope_layers", "config_names",
        "fused_gate_up", "normalized_head", "positions", "qkv_layout", "tensor_names", "verify_as",
    }  # fmt: skip
    assert set(fields_with(Architecture, Trait.IMPLIED)) == implied
    assert set(fields_with(Architecture, Trait.CLAIMED)) == {
        "use_parallel_residual", "partial_rotary_factor", "rope_local_base_freq", "no_rope_layers",
        "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "attention_multiplier",
        "embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale",
        "no_rope_layer_interval", "sliding_window_pattern",
    }  # fmt: skip
    assert set(fields_with(Architecture, Trait.PER_LAYER)) == {"layer_types", "no_rope_layers"}
    assert set(fields_with(Architecture, Trait.WINDOW)) == {"sliding_window", "use_sliding_window"}


def test_null_is_a_value_only_where_the_type_says_so():
    assert nullable_fields(Architecture) == {
        "rope_scaling", "sliding_window", "layer_types", "no_rope_layers", "rope_local_base_freq",
        "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "attention_multiplier",
        "no_rope_layer_interval", "sliding_window_pattern", "verify_as",
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
