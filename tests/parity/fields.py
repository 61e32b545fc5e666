"""The whole space of the decoder's fields, for hypothesis to draw combinations from."""

from __future__ import annotations

from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

CONTEXT = 96
"""Positions that the checkpoints serve."""


@st.composite
def rotary(draw: st.DrawFn) -> dict[str, Any]:
    """Rotary base and scaling, every type that the decoder knows."""
    theta = draw(st.sampled_from([100.0, 10000.0, 500000.0]))
    kind = draw(st.sampled_from(["default", "linear", "dynamic", "llama3", "yarn"]))
    found: dict[str, Any] = {"rope_type": kind, "rope_theta": theta}
    if kind != "default":
        found["factor"] = draw(st.sampled_from([2.0, 8.0]))
    if kind in ("llama3", "yarn"):
        found["original_max_position_embeddings"] = draw(st.sampled_from([16, 32]))
    if kind == "llama3":
        found |= {"low_freq_factor": draw(st.sampled_from([1.0, 2.0])), "high_freq_factor": 4.0}
    if kind == "yarn":
        found |= draw(
            st.sampled_from([{}, {"beta_fast": 16.0, "beta_slow": 2.0}, {"attention_factor": 0.7}, {"truncate": False}])
        )
    return found


@st.composite
def quirks(draw: st.DrawFn, model_type: str, layers: int) -> dict[str, Any]:
    """What only some types of model have: biases, windows by layer; norms of q and k, offsets and scaled embeddings
    come with the type.
    """
    found: dict[str, Any] = {}
    if model_type in ("llama", "qwen3", "gemma"):
        found["attention_bias"] = draw(st.booleans())
    if model_type == "llama":
        found["mlp_bias"] = draw(st.booleans())
    if model_type in ("mistral", "qwen2", "qwen3"):
        found["sliding_window"] = draw(st.sampled_from([None, 2, 9, 32, 95, 200]))
    if model_type in ("qwen2", "qwen3"):
        found["use_sliding_window"] = found["sliding_window"] is not None and draw(st.booleans())
        if found["use_sliding_window"]:
            kinds = st.sampled_from(["sliding_attention", "full_attention"])
            found["layer_types"] = draw(st.lists(kinds, min_size=layers, max_size=layers))
    return found


@st.composite
def numbers(draw: st.DrawFn) -> dict[str, Any]:
    """Any combination of the decoder's fields, sizes that divide nothing among them."""
    model_type = draw(st.sampled_from(["llama", "llama", "qwen2", "qwen3", "mistral", "gemma"]))
    heads = draw(st.sampled_from([1, 2, 3, 4, 6]))
    kv_heads = draw(st.sampled_from([one for one in (1, 2, 3, 4, 6) if heads % one == 0]))
    head_dim, positions = draw(st.sampled_from([2, 6, 8, 10, 16, 20, 32, 48])), draw(rotary())
    assume(head_dim > 2 or positions["rope_type"] != "dynamic")  # transformers divides by head_dim - 2 there
    layers = draw(st.integers(1, 3))
    return {
        "model_type": model_type,
        # transformers wants the heads to divide it, whatever their size.
        "hidden_size": heads * draw(st.sampled_from([5, 8, 13, 16, 20])),
        "intermediate_size": draw(st.sampled_from([16, 30, 57, 128])),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "vocab_size": draw(st.sampled_from([7, 64, 259])),
        "max_position_embeddings": CONTEXT,
        "hidden_act": draw(st.sampled_from(["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])),
        "rms_norm_eps": draw(st.sampled_from([1e-6, 1e-5, 1e-3])),
        "tie_word_embeddings": draw(st.booleans()),
        "rope_parameters": positions,
        "dtype": draw(st.sampled_from(["float32", "float16", "bfloat16"])),
        "seed": draw(st.integers(0, 1000)),
        **draw(quirks(model_type, layers)),
    }
