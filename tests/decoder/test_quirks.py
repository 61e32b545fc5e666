"""Quirks that ``config.json`` does not state: what a family's claim implies, against transformers' own model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.checkpoints import SMALL
from tests.decoder.stepping import Stepping, prompt

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-3
GREEDY = 110
VARIATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "qkv-bias": ("qwen2", {}),
    "qkv-bias-mha-head-8": ("qwen2", {"num_key_value_heads": 4, "hidden_size": 32}),
    "qkv-bias-tied": ("qwen2", {"tie_word_embeddings": True}),
    "window-of-later-layers": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1, "num_hidden_layers": 3},
    ),
    "window-by-layer": (
        "qwen2",
        {
            "use_sliding_window": True,
            "sliding_window": 16,
            "num_hidden_layers": 3,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "window-switched-off": ("qwen2", {"use_sliding_window": False, "sliding_window": 16}),
    "qk-norm": ("qwen3", {"head_dim": 32}),
    "qk-norm-padded-head": ("qwen3", {"head_dim": 8}),
    "qk-norm-odd-head-tied": ("qwen3", {"head_dim": 20, "tie_word_embeddings": True}),
    "qk-norm-epsilon": ("qwen3", {"head_dim": 8, "rms_norm_eps": 1e-1}),
    "qk-norm-biases": ("qwen3", {"head_dim": 16, "attention_bias": True}),
    "qk-norm-mqa-window": (
        "qwen3",
        {
            "head_dim": 24,
            "num_key_value_heads": 1,
            "use_sliding_window": True,
            "sliding_window": 8,
            "max_window_layers": 0,
        },
    ),
    "window": ("mistral", {"sliding_window": 16}),
    "window-of-two": ("mistral", {"sliding_window": 2, "head_dim": 8}),
    "window-wide": ("mistral", {"sliding_window": 255}),
    "no-window": ("mistral", {"sliding_window": None}),
    "norm-offset-mqa": ("gemma", {"num_key_value_heads": 1, "head_dim": 32}),
    "norm-offset-mha": ("gemma", {"num_key_value_heads": 4, "head_dim": 24}),
    "gelu-means-tanh": ("gemma", {"hidden_act": "gelu", "head_dim": 16}),
    "norm-offset-untied": ("gemma", {"head_dim": 16, "tie_word_embeddings": False}),
}


def make(folder: Path, model_type: str, *, dtype: str = "float32", seed: int = 0, **numbers: Any) -> Any:
    """Save a random model of a type and open it again in float32."""
    torch.manual_seed(seed)
    kind = transformers.CONFIG_MAPPING[model_type]
    config = kind(**{**SMALL, "initializer_range": 0.2, "eos_token_id": None, "pad_token_id": None, **numbers})
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if values.ndim == 1:
                around = 0.0 if name.endswith("bias") or model_type == "gemma" else 1.0
                torch.nn.init.normal_(values, around, 0.2)
            elif "embed_tokens" in name and model_type == "gemma":
                values /= 2
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def greedy_of(model: Any, tokens: list[int], count: int) -> list[int]:
    model.generation_config.eos_token_id = None
    ids = torch.tensor([tokens])
    with torch.no_grad():
        longer = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=0
        )
    return longer[0, len(tokens) :].tolist()


@pytest.mark.parametrize("name", VARIATIONS)
def test_it_computes_what_transformers_computes(name: str, tmp_path: Path) -> None:
    model_type, numbers = VARIATIONS[name]
    model = make(tmp_path / "checkpoint", model_type, **numbers)
    package = zoo.build(str(tmp_path / "checkpoint"), "fp32", output=tmp_path / "package").path
    tokens = prompt(100)
    with torch.no_grad():
        wanted = model(torch.tensor([tokens])).logits[0].numpy()
    stepping = Stepping(package)
    found = stepping.step(tokens, keep=0)
    assert float(np.abs(found - wanted).max()) <= TOLERANCE
    assert wanted.std() > 0.5, "logits this flat would hide a difference"
    engine = zoo.open(package)
    assert engine.generate(tokens[:5], max_new_tokens=GREEDY, ignore_eos=True).token_ids == greedy_of(
        model, tokens[:5], GREEDY
    )


@pytest.mark.parametrize(("model_type", "dtype"), [("qwen3", "bfloat16"), ("gemma", "bfloat16"), ("gemma", "float16")])
def test_weights_of_16_bits_are_widened_before_anything_is_done(model_type, dtype, tmp_path: Path) -> None:
    """An offset of norms is added in float32: 1 + w does not fit bfloat16."""
    model = make(tmp_path / "checkpoint", model_type, dtype=dtype, head_dim=16)
    package = zoo.build(str(tmp_path / "checkpoint"), "fp32", output=tmp_path / "package").path
    tokens = prompt(60)
    with torch.no_grad():
        wanted = model(torch.tensor([tokens])).logits[0].numpy()
    assert float(np.abs(zoo.open(package).logits(tokens) - wanted).max()) <= TOLERANCE


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16"])
@pytest.mark.parametrize("model_type", ["qwen2", "qwen3", "mistral", "gemma"])
def test_every_precision_stays_near(model_type: str, precision: str, tmp_path: Path) -> None:
    model = make(tmp_path / "checkpoint", model_type, head_dim=16, **SLIDING.get(model_type, {}))
    package = zoo.build(str(tmp_path / "checkpoint"), precision, output=tmp_path / "package").path
    tokens = prompt(60)
    with torch.no_grad():
        wanted = model(torch.tensor([tokens])).logits[0].numpy()
    apart = float(np.sqrt(np.mean((zoo.open(package).logits(tokens) - wanted) ** 2)) / wanted.std())
    assert apart < {"int8": 0.15, "int4": 0.8, "fp16": 0.01}[precision], apart


SLIDING = {"mistral": {"sliding_window": 16}}
