"""``config.json`` → numbers: defaults, both spellings of rotary scaling, refusals by name, anything at all."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.declarations.architecture import Architecture
from zoo.decoder import Decoder
from zoo.errors import ZooError

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 331,
    "max_position_embeddings": 256,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def read(**changes: Any) -> Architecture:
    config = {**SMALL, **changes}
    return Decoder().read_config({key: value for key, value in config.items() if value is not ...})


def test_absent_keys_mean_what_transformers_means() -> None:
    config = pytest.importorskip("transformers").LlamaConfig(**{**SMALL, "max_position_embeddings": 2048})
    arch = read(max_position_embeddings=...)
    for name in (
        "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "attention_bias", "mlp_bias",
        "tie_word_embeddings", "max_position_embeddings",
    ):  # fmt: skip
        assert getattr(arch, name) == getattr(config, name), name
    assert arch.rope_theta == config.rope_parameters["rope_theta"]
    assert arch.rope_scaling is None


def test_what_transformers_writes_is_read_without_a_word(tmp_path: Any, caplog: Any) -> None:
    config = pytest.importorskip("transformers").LlamaConfig(**SMALL, rope_parameters=LLAMA3 | {"rope_theta": 5e5})
    config.save_pretrained(tmp_path)
    arch = Decoder().read_config(json.loads((tmp_path / "config.json").read_text()))
    assert arch.rope_theta == 5e5
    assert arch.rope_scaling is not None
    assert arch.rope_scaling.rope_type == "llama3"
    assert not caplog.records


def test_heads_make_the_attention() -> None:
    assert read().attention == "MHA"
    assert read(num_key_value_heads=2).attention == "GQA"
    assert read(num_key_value_heads=1).attention == "MQA"
    assert read(num_key_value_heads=None, head_dim=None).head_dim == 16
    assert read(head_dim=8).head_dim == 8


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 2.0},
        {"rope_type": "dynamic", "factor": 2.0},
        LLAMA3,
        {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16, "mscale": 1.0, "mscale_all_dim": 0, "truncate": False},
    ],
)
def test_every_spelling_of_a_scaling_reads_the_same(scaling: dict[str, Any]) -> None:
    newer = read(rope_parameters={**scaling, "rope_theta": 5e5})
    older = {"type" if key == "rope_type" else key: value for key, value in scaling.items()}
    assert newer.rope_scaling is not None
    assert newer.rope_scaling.rope_type == scaling["rope_type"]
    assert newer.rope_theta == 5e5
    assert read(rope_theta=5e5, rope_scaling=scaling) == newer
    assert read(rope_theta=5e5, rope_scaling=older) == newer
    assert read(rope_theta=1.5, rope_scaling=None, rope_parameters={**older, "rope_theta": 5e5}) == newer


def test_default_and_empty_scalings_are_none() -> None:
    assert read(rope_scaling={}, rope_theta=7.0) == read(rope_theta=7.0)
    assert read(rope_parameters={"rope_type": "default", "rope_theta": 7.0}) == read(rope_theta=7.0)
    assert read(rope_scaling={"type": "default"}) == read()


def test_original_context_falls_back_to_the_context() -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0}
    assert read(rope_scaling=scaling).rope_scaling.original_max_position_embeddings == 256  # type: ignore[union-attr]
    outside = read(rope_scaling=scaling, original_max_position_embeddings=64).rope_scaling
    assert outside is not None
    assert outside.original_max_position_embeddings == 64


REFUSED: list[tuple[str, Any]] = [
    ("hidden_act", "mish"),
    ("hidden_act", ["silu"]),
    ("quantization_config", {"quant_method": "gptq"}),
    ("partial_rotary_factor", 0.5),
    ("sliding_window", 128),
    ("attn_logit_softcapping", 50.0),
    ("final_logit_softcapping", 30.0),
    ("qk_norm", True),
    ("use_qk_norm", True),
    ("embedding_multiplier", 12.0),
    ("residual_multiplier", 0.22),
    ("attention_multiplier", 0.015625),
    ("logits_scaling", 8.0),
    ("num_experts", 8),
    ("num_local_experts", 8),
    ("alibi", True),
    ("position_embedding_type", "absolute"),
    ("layer_types", ["full_attention", "sliding_attention"]),
    ("layer_types", "sliding_attention"),
    ("no_rope_layers", [1, 0]),
    ("rope_interleave", True),
    ("is_encoder_decoder", True),
    ("hidden_size", "64"),
    ("hidden_size", -64),
    ("hidden_size", 64.0),
    ("hidden_size", True),
    ("hidden_size", 10**30),
    ("hidden_size", None),
    ("vocab_size", ...),
    ("num_hidden_layers", 0),
    ("num_hidden_layers", 2**30),
    ("num_attention_heads", 5),
    ("num_key_value_heads", 3),
    ("num_key_value_heads", 0),
    ("head_dim", 7),
    ("rms_norm_eps", math.nan),
    ("rms_norm_eps", "1e-6"),
    ("rms_norm_eps", 0),
    ("rope_theta", math.inf),
    ("rope_theta", -1.0),
    ("attention_bias", "yes"),
    ("mlp_bias", 1),
    ("tie_word_embeddings", []),
    ("max_position_embeddings", 0),
    ("rope_scaling", {"rope_type": "longrope", "factor": 2.0}),
    ("rope_scaling", {"type": ["linear"], "factor": 2.0}),
    ("rope_scaling", {"type": "linear"}),
    ("rope_scaling", {"type": "linear", "factor": "2"}),
    ("rope_scaling", {"type": "linear", "factor": 0.5}),
    ("rope_scaling", {"type": "dynamic", "factor": 1e12}),
    ("rope_scaling", {"type": "linear", "factor": 2.0, "mrope_section": [1, 2]}),
    ("rope_scaling", {"type": "yarn", "factor": 2.0, "truncate": 1}),
    ("rope_scaling", {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64.5}),
    ("rope_scaling", LLAMA3 | {"low_freq_factor": 4.0}),
    ("rope_scaling", LLAMA3 | {"high_freq_factor": None}),
    ("rope_scaling", "linear"),
    ("rope_parameters", {"full_attention": {"rope_type": "default"}}),
    ("rope_parameters", {"rope_type": "default", "partial_rotary_factor": 0.5}),
]


@pytest.mark.parametrize(("key", "value"), REFUSED)
def test_what_is_not_computed_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(ZooError) as caught:
        read(**{key: value})
    message = str(caught.value)
    assert key in message
    assert message.startswith("config.json")
    assert "\n" not in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("quantization_config", None),
        ("partial_rotary_factor", 1.0),
        ("sliding_window", None),
        ("sliding_window", 4096),
        ("embedding_multiplier", 1.0),
        ("num_local_experts", 0),
        ("alibi", False),
        ("layer_types", ["full_attention", "full_attention"]),
        ("position_embedding_type", "rope"),
    ],
)
def test_quirks_that_are_switched_off_pass(key: str, value: Any, caplog: Any) -> None:
    assert read(**{key: value}) == read()
    assert not caplog.records


def test_a_window_that_is_not_used_passes() -> None:
    assert read(sliding_window=128, use_sliding_window=False) == read()


def test_unknown_keys_are_named_in_one_warning(caplog: Any) -> None:
    caplog.set_level(logging.WARNING, "zoo")
    read(flux=2, zeta="x" * 400, nothing=None, off=False)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "flux, zeta" in message
    assert "off" not in message
    assert "nothing" not in message


def test_code_of_a_checkpoint_is_never_run(caplog: Any) -> None:
    assert read(auto_map={"AutoModel": "modeling_x.Model"}) == read()
    assert "never run" in caplog.text


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([1, 2, 8, 64, 1e4])
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
SCALING = st.dictionaries(
    st.sampled_from([*LLAMA3, "type", "rope_theta", "beta_fast", "mscale", "truncate", "partial_rotary_factor", "x"]),
    JSON | st.sampled_from(["linear", "dynamic", "llama3", "yarn"]),
)
KEYS = sorted({key for key, _ in REFUSED} | set(SMALL) | {"auto_map", "original_max_position_embeddings", "another"})


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), JSON | SCALING, max_size=6))
def test_anything_is_read_or_refused_in_one_line(changes: dict[str, Any]) -> None:
    """No configuration ends in a traceback, and numbers that are read can be listed and turned into frequencies."""
    from zoo.decoder.rotary import angles

    decoder, refusal = Decoder(), ""
    try:
        arch = decoder.read_config({**SMALL, **changes})
    except ZooError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert len(refusal) < 400
    if refusal:
        return
    assert arch == Architecture.model_validate_json(arch.model_dump_json())
    if arch.num_hidden_layers <= 64 and arch.head_dim <= 4096:
        assert decoder.tensors(arch).keys() == {
            each.tensor for one in decoder.parameters(arch, 16) for each in one.slices
        }
        turned = angles(arch, -(-arch.head_dim // 16) * 16)
        assert turned.frequencies.shape == turned.exponents.shape
        assert arch.context_length < 2**31


def test_listing_needs_no_numpy() -> None:
    code = (
        "import sys; from zoo.decoder import Decoder; d = Decoder();"
        f"a = d.read_config({SMALL!r}); d.parameters(a, 16); d.tensors(a);"
        "from zoo.operations import record; assert record(d, a, 16).steps; assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_count_is_that_of_the_tensors() -> None:
    import math

    from zoo.plugins import host

    decoder = Decoder()
    for model in host().registry.models():
        arch = model.architecture
        shapes = decoder.tensors(arch).values()
        assert decoder.parameter_count(arch) == sum(math.prod(shape) for shape in shapes), model.full_name


@pytest.mark.parametrize(
    ("stated", "scaling", "context"),
    [
        # The recipe of model cards: a factor is stated, max_position_embeddings stays what was trained on.
        (32768, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        (131072, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        (40960, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        (163840, {"rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}, 163840),
        (131072, {"rope_type": "yarn", "original_max_position_embeddings": 32768}, 131072),
        (4096, {"rope_type": "yarn", "factor": 1.5}, 6144),
        (4096, {"type": "linear", "factor": 4.0}, 16384),
        (16384, {"type": "linear", "factor": 4.0, "original_max_position_embeddings": 4096}, 16384),
        (2048, {"type": "dynamic", "factor": 2.0}, 4096),
        (131072, LLAMA3, 131072),
        (2048, {"type": "default"}, 2048),
    ],
)
def test_a_scaled_context_is_the_stretched_one(stated: int, scaling: dict[str, Any], context: int) -> None:
    arch = read(**{**SMALL, "max_position_embeddings": stated}, rope_scaling=scaling)
    assert arch.context_length == context
    assert arch.longest_text == (stated if scaling.get("type") == "dynamic" else context)
