"""onnxruntime-genai opens the same folder, unchanged, and continues a prompt the same way."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import zoo
from tests.checkpoints import make_checkpoint, make_of_type
from tests.parity.fields import numbers

pytest.importorskip("torch")
genai = pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is not installed")

NEW = 24


def continued(folder, ids: list[int]) -> list[int]:
    """Greedy tokens of onnxruntime-genai after a prompt."""
    model = genai.Model(str(folder))
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(max_length=len(ids) + NEW, do_sample=False, min_length=len(ids) + NEW)
    generator = genai.Generator(model, parameters)
    generator.append_tokens(np.array([ids], np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    return [int(one) for one in generator.get_sequence(0)][len(ids) :]


@pytest.mark.parametrize(
    ("precision", "numbers"),
    [
        ("fp32", {}),
        ("fp32", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
        ("fp32", {"num_key_value_heads": 1, "head_dim": 8, "attention_bias": True}),
        ("fp16", {"dtype": "float16"}),
        ("int8", {"hidden_size": 80}),
        ("int4", {"mlp_bias": True}),
    ],
    ids=str,
)
def test_it_continues_as_the_engine_does(tmp_path, precision, numbers) -> None:
    make_checkpoint(tmp_path / "checkpoint", eos_token_id=330, **numbers)
    package = zoo.build(str(tmp_path / "checkpoint"), precision, output=tmp_path / "package").path
    prompt = [int(one) for one in np.random.default_rng(4).integers(0, 330, 9)]
    ours = zoo.open(package).generate(prompt, max_new_tokens=NEW, stop_token_ids=[330]).token_ids
    theirs = continued(package, prompt)
    assert theirs[: len(ours)] == ours
    assert len(ours) > 4


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    ("model_type", "numbers"),
    [
        ("qwen2", {"tie_word_embeddings": True}),
        ("qwen3", {"head_dim": 8}),
        ("mistral", {"sliding_window": 8}),
        ("gemma", {"head_dim": 32, "num_key_value_heads": 1}),
    ],
)
def test_it_continues_other_families_too(tmp_path, model_type, numbers, precision) -> None:
    make_of_type(tmp_path / "checkpoint", model_type, **{"eos_token_id": 330, **numbers})
    package = zoo.build(str(tmp_path / "checkpoint"), precision, output=tmp_path / "package").path
    prompt = [int(one) for one in np.random.default_rng(4).integers(0, 330, 19)]
    ours = zoo.open(package).generate(prompt, max_new_tokens=NEW, stop_token_ids=[330]).token_ids
    assert continued(package, prompt)[: len(ours)] == ours
    assert len(ours) > 4


@settings(
    max_examples=12, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
@given(fields=numbers(), precision=st.sampled_from(["fp32", "int8", "int4"]))
def test_it_continues_whatever_the_fields_are(fields: dict[str, Any], precision: str) -> None:
    end = fields["vocab_size"] - 1  # onnxruntime-genai wants an end of sequence, and keeps it back until the last token
    with tempfile.TemporaryDirectory() as folder:
        make_of_type(Path(folder) / "checkpoint", **fields, eos_token_id=end)
        package = zoo.build(f"{folder}/checkpoint", precision, output=Path(folder) / "package").path
        prompt = [int(one) for one in np.random.default_rng(fields["seed"]).integers(0, end, 19)]
        ours = zoo.open(package).generate(prompt, max_new_tokens=NEW, stop_token_ids=[end]).token_ids
        assert continued(package, prompt)[: len(ours)] == ours
