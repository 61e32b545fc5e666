"""What a package computes against transformers, for every variation that the decoder knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.checkpoints import edit_config, make_checkpoint
from tests.decoder.stepping import Stepping, prompt

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

TOLERANCE = 1e-3
GREEDY = 200


def rope(kind: str, **numbers: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **numbers}}


BANDS = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
YARN = {"factor": 4.0, "original_max_position_embeddings": 64}
VARIATIONS: dict[str, dict[str, Any]] = {
    "gqa": {},
    "mha": {"num_key_value_heads": 4},
    "mqa": {"num_key_value_heads": 1},
    "three-heads": {"hidden_size": 48, "num_attention_heads": 3, "num_key_value_heads": 1},
    "head-8": {"head_dim": 8},
    "head-20": {"head_dim": 20},
    "head-32-of-16": {"head_dim": 32},
    "head-64": {"head_dim": 64},
    "head-2": {"head_dim": 2},
    "attention-bias": {"attention_bias": True},
    "mlp-bias": {"mlp_bias": True},
    "both-biases": {"attention_bias": True, "mlp_bias": True},
    "tied": {"tie_word_embeddings": True},
    "everything": {"head_dim": 8, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "one-layer": {"num_hidden_layers": 1},
    "odd-sizes": {"vocab_size": 257, "hidden_size": 72, "head_dim": 16, "intermediate_size": 109},
    "gelu": {"hidden_act": "gelu"},
    "gelu-new": {"hidden_act": "gelu_new"},
    "gelu-tanh": {"hidden_act": "gelu_pytorch_tanh"},
    "relu": {"hidden_act": "relu"},
    "epsilon": {"rms_norm_eps": 1e-2},
    "theta": rope("default") | {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    "linear": rope("linear", factor=2.0),
    "dynamic": rope("dynamic", factor=8.0) | {"max_position_embeddings": 48},
    "dynamic-head-8": rope("dynamic", factor=8.0) | {"max_position_embeddings": 48, "head_dim": 8},
    "llama3": rope("llama3", **BANDS),
    "llama3-head-20": rope("llama3", **BANDS) | {"head_dim": 20},
    "yarn": rope("yarn", **YARN),
    "yarn-attention": rope("yarn", **YARN, attention_factor=0.7),
    "yarn-mscale": rope("yarn", **YARN, mscale=0.7, mscale_all_dim=1.1),
    "yarn-betas": rope("yarn", **YARN, beta_fast=16.0, beta_slow=2.0, truncate=False) | {"head_dim": 64},
}


def logits_of(model: Any, tokens: list[int]) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


def greedy_of(model: Any, tokens: list[int], count: int) -> list[int]:
    ids = torch.tensor([tokens])
    with torch.no_grad():
        generated = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    return generated[0, len(tokens) :].tolist()


@pytest.mark.parametrize("name", VARIATIONS)
def test_fp32_computes_what_transformers_computes(name: str, tmp_path: Path) -> None:
    """Every position's logits, and 200 greedy tokens one step at a time, past the trained context where it scales."""
    model = make_checkpoint(tmp_path / "checkpoint", **VARIATIONS[name])
    package = Stepping(zoo.build(tmp_path / "checkpoint", "fp32", output=tmp_path / "package").path)
    tokens = prompt(40, model.config.vocab_size)

    wanted = logits_of(model, tokens)
    assert np.abs(wanted).max() > 1, "a checkpoint whose logits are all small would prove nothing"
    assert np.abs(package.step(tokens, keep=0) - wanted).max() <= TOLERANCE

    generated = greedy_of(model, tokens, GREEDY)
    assert len(set(generated)) > 5, "a text that repeats itself would prove little"
    assert package.greedy(tokens, GREEDY) == generated


@pytest.mark.parametrize("name", ["dynamic", "dynamic-head-8", "yarn", "llama3"])
def test_long_prompts(name: str, tmp_path: Path) -> None:
    """A prompt past the trained context, whole and then stepped: dynamic scaling turns all of it by its length."""
    model = make_checkpoint(tmp_path / "checkpoint", **VARIATIONS[name])
    package = Stepping(zoo.build(tmp_path / "checkpoint", "fp32", output=tmp_path / "package").path)
    tokens = prompt(150)
    assert np.abs(package.step(tokens, keep=0) - logits_of(model, tokens)).max() <= TOLERANCE
    assert package.greedy(tokens, 40) == greedy_of(model, tokens, 40)


def test_chunks_and_single_steps_agree(tmp_path: Path) -> None:
    """A prompt in one call, in chunks and token by token gives the same logits."""
    make_checkpoint(tmp_path / "checkpoint")
    package = Stepping(zoo.build(tmp_path / "checkpoint", "fp32", output=tmp_path / "package").path)
    tokens = prompt(50)
    whole = package.step(tokens)
    package.reset()
    for start in range(0, 50, 16):
        chunked = package.step(tokens[start : start + 16])
    package.reset()
    for token in tokens:
        stepped = package.step([token])
    assert np.abs(chunked - whole).max() <= TOLERANCE
    assert np.abs(stepped - whole).max() <= TOLERANCE


def test_dynamic_stepping_is_the_same_in_any_chunks(tmp_path: Path) -> None:
    """Positions that are not the sequence's beginning are turned as at their own length, however many come at once."""
    make_checkpoint(tmp_path / "checkpoint", **VARIATIONS["dynamic"])
    package = Stepping(zoo.build(tmp_path / "checkpoint", "fp32", output=tmp_path / "package").path)
    tokens = prompt(150)
    package.step(tokens[:60])
    together = package.step(tokens[60:], keep=0)
    package.reset()
    package.step(tokens[:60])
    apart = np.concatenate([package.step([token]) for token in tokens[60:]])
    assert np.abs(together - apart).max() <= TOLERANCE


def test_dynamic_without_growth_is_no_scaling(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "checkpoint", **rope("dynamic", factor=4.0))
    package = Stepping(zoo.build(tmp_path / "checkpoint", "fp32", output=tmp_path / "package").path)
    tokens = prompt(40)
    scaled = package.step(tokens, keep=0)
    assert np.abs(scaled - logits_of(model, tokens)).max() <= TOLERANCE
    edit_config(tmp_path / "checkpoint", rope_parameters=None)
    plain = Stepping(zoo.build(tmp_path / "checkpoint", "fp32", output=tmp_path / "plain").path)
    assert np.abs(scaled - plain.step(tokens, keep=0)).max() <= TOLERANCE


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_fp16_is_exact_for_float16_weights(dtype: str, tmp_path: Path) -> None:
    """Computation stays float32, so only weights that float16 cannot hold differ."""
    model = make_checkpoint(tmp_path / "checkpoint", dtype=dtype, tie_word_embeddings=True, attention_bias=True)
    package = Stepping(zoo.build(tmp_path / "checkpoint", "fp16", output=tmp_path / "package").path)
    tokens = prompt(40)
    worst = np.abs(package.step(tokens, keep=0) - logits_of(model, tokens)).max()
    assert worst <= (0.1 if dtype == "float32" else TOLERANCE)


def test_old_and_new_rope_keys_build_the_same(tmp_path: Path) -> None:
    """``rope_theta`` with ``rope_scaling`` and ``type``, or ``rope_parameters``: one graph."""
    folder = tmp_path / "checkpoint"
    make_checkpoint(folder, **rope("linear", factor=2.0))
    newer = zoo.build(folder, "fp32", output=tmp_path / "newer")
    edit_config(folder, rope_parameters=None, rope_theta=10000.0, rope_scaling={"type": "linear", "factor": 2.0})
    older = zoo.build(folder, "fp32", output=tmp_path / "older")
    assert (newer.path / "model.onnx").read_bytes() == (older.path / "model.onnx").read_bytes()
