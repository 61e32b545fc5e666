"""The architecture ``embedder``: a decoder's hidden states, of texts padded to one length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.encoders import SMALL, TEXTS, cosines, describe, hidden_states, write_words
from zoo.embedding import EncoderEngine

transformers = pytest.importorskip("transformers")


def make_decoder(folder: Path, cls: str = "Qwen3Model", **numbers: Any) -> Any:
    """Save a random decoder with the tokenizer of words; return the model without a head."""
    import torch

    torch.manual_seed(0)
    kind = cls.removesuffix("Model").removesuffix("ForCausalLM")
    given = {**SMALL, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64, **numbers}
    model = getattr(transformers, cls)(getattr(transformers, f"{kind}Config")(**given)).eval()
    model.save_pretrained(folder)
    write_words(folder)
    return getattr(model, "model", model)


@pytest.mark.parametrize(
    ("cls", "numbers"),
    [
        ("Qwen3Model", {"tie_word_embeddings": True}),
        ("Qwen3ForCausalLM", {"tie_word_embeddings": False}),
        ("LlamaModel", {"head_dim": 12}),
        ("MistralForCausalLM", {"sliding_window": 5}),
    ],
)
def test_a_decoder_embeds_as_transformers_does(cls: str, numbers: dict[str, Any], tmp_path: Path) -> None:
    model = make_decoder(tmp_path / "decoder", cls, **numbers)
    describe(tmp_path / "decoder", pooling="lasttoken", prompts={"query": "the "})
    wanted = np.stack([states[-1] for states in hidden_states(model, tmp_path / "decoder", TEXTS)])
    for precision in ("fp32", "int8"):
        package = zoo.build(tmp_path / "decoder", precision, output=tmp_path / precision, threads=1)
        engine: Any = zoo.open(package.path, threads=1)
        assert isinstance(engine, EncoderEngine)
        close = cosines(engine.embed(TEXTS).vectors, wanted).min()
        assert close > (0.9999 if precision == "fp32" else 0.98)
    assert package.manifest.memory is not None
    assert package.manifest.memory.kv_bytes_per_token == 0
    assert "genai_config.json" not in package.manifest.files


def test_without_the_list_of_modules_it_generates(tmp_path: Path) -> None:
    make_decoder(tmp_path / "decoder", "Qwen3ForCausalLM")
    package = zoo.build(tmp_path / "decoder", "fp32", output=tmp_path / "fp32", threads=1)
    assert package.manifest.recipe.architecture.type == "decoder"
    assert json.loads((package.path / "genai_config.json").read_text())
