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
    implied = {"qkv_bias", "qk_norm", "scale_embedding", "norm_offset", "gelu_approximate"}
    assert set(fields_with(Architecture, Trait.IMPLIED)) == implied
    assert set(fields_with(Architecture, Trait.WINDOW)) == {"sliding_window", "use_sliding_window"}


def test_null_is_a_value_only_where_the_type_says_so():
    assert nullable_fields(Architecture) == {"rope_scaling", "sliding_window", "layer_types"}
