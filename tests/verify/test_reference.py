"""The reference, a layer at a time, is transformers' model as a whole."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.checkpoints import edit_config, make_checkpoint, make_of_type
from zoo.decoder.config import read_config
from zoo.errors import ZooError
from zoo.plugins import host
from zoo.sources.folder import open_folder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from zoo.verify.reference import TransformersReference  # noqa: E402


def sequences(vocab: int = 331) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, vocab, length, dtype=np.int64) for length in (1, 33, 7, 40)]


def check(folder, *architecture) -> None:
    """Compare with the model's own forward over all its weights at once."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    reference = TransformersReference(open_folder(folder), *architecture)
    ids = sequences()
    reference.begin(ids)
    for layer in range(reference.num_layers):
        reference.step(layer)
    for index, one in enumerate(ids):
        with torch.inference_mode():
            wanted = model(torch.from_numpy(one)[None]).logits[0].numpy()
        found = np.concatenate([reference.logits(index, at, min(at + 3, len(one))) for at in range(0, len(one), 3)])
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max() + 1e-6)


@pytest.mark.parametrize(
    "numbers",
    [
        {},
        {"tie_word_embeddings": True, "num_key_value_heads": 1},
        {"attention_bias": True, "mlp_bias": True, "head_dim": 8},
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}},
        {
            "rope_parameters": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64, "rope_theta": 10000.0,
            }
        },
    ],
    ids=["plain", "tied", "biases", "linear", "llama3"],
)  # fmt: skip
def test_it_is_transformers_model(tmp_path, numbers) -> None:
    make_checkpoint(tmp_path, **numbers)
    check(tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_stored_types_are_widened(tmp_path, dtype) -> None:
    make_checkpoint(tmp_path, dtype=dtype)
    check(tmp_path)


def test_another_architecture_needs_no_code_of_its_own(tmp_path) -> None:
    """Scaled embeddings, windows, soft caps, further norms: all are the model's own forward."""
    torch.manual_seed(0)
    config = transformers.Gemma2Config(
        vocab_size=331, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, sliding_window=5, max_position_embeddings=64, query_pre_attn_scalar=16,
        initializer_range=0.2,
    )  # fmt: skip
    transformers.Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    check(tmp_path)


EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 48}
LATENT = {
    **EXPERTS, "q_lora_rank": 24, "kv_lora_rank": 32, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 16,
    "num_key_value_heads": 4, "n_routed_experts": 4, "first_k_dense_replace": 1, "head_dim": 8, "n_group": 2,
    "topk_group": 1,
}  # fmt: skip
MORE = {"deepseek_v2": LATENT, "deepseek_v3": LATENT, "qwen3_moe": {**EXPERTS, "num_experts": 6}}
CLAIMED = {
    model_type: family.family
    for family in host().registry.families.values()
    for model_type in family.family.claims
    if family.family.architecture.type != "encoder" and model_type in transformers.CONFIG_MAPPING
}
CLAIMED.pop("gpt_oss")  # read over a checkpoint that swaps axes back: tests/decoder/test_experts.py compares it


@pytest.mark.parametrize("model_type", CLAIMED)
def test_every_claimed_type_is_transformers_model(tmp_path, model_type) -> None:
    """Whatever its layers return: hidden states, or a tuple of them and more."""
    make_of_type(tmp_path, model_type, **MORE.get(model_type, {}))
    implied = CLAIMED[model_type].claim(model_type).model_dump(exclude_unset=True)
    arch = read_config(open_folder(tmp_path).config, implied)
    check(tmp_path, host().registry.architecture(arch.type), arch)


def test_a_model_saved_without_its_head_and_prefix(tmp_path) -> None:
    model = make_checkpoint(tmp_path, tie_word_embeddings=True)
    model.model.save_pretrained(tmp_path)
    assert "embed_tokens.weight" in open_folder(tmp_path).tensors
    check(tmp_path)


def test_one_layer_is_in_memory_at_a_time(tmp_path) -> None:
    make_checkpoint(tmp_path, num_hidden_layers=4)
    reference = TransformersReference(open_folder(tmp_path))

    def there() -> set[str]:
        return {name for name, weight in reference._model.named_parameters() if not weight.is_meta}

    assert not there()
    reference.begin(sequences())
    for layer in range(4):
        reference.step(layer)
        assert there() == {"model.norm.weight"}
    reference.logits(0, 0, 1)
    assert there() == {"model.norm.weight", "lm_head.weight"}


def test_what_cannot_be_referred_to_is_one_line(tmp_path) -> None:
    make_checkpoint(tmp_path)
    edit_config(tmp_path, model_type="nobody-knows")
    with pytest.raises(ZooError, match="nobody-knows"):
        TransformersReference(open_folder(tmp_path))
    edit_config(tmp_path, model_type="llama", num_attention_heads="four")
    with pytest.raises(ZooError, match=r"refuses its config\.json"):
        TransformersReference(open_folder(tmp_path))


def test_a_missing_tensor_is_named(tmp_path) -> None:
    make_checkpoint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    edit_config(tmp_path, num_hidden_layers=config["num_hidden_layers"] + 1)
    reference = TransformersReference(open_folder(tmp_path))
    reference.begin(sequences())
    reference.step(0)
    reference.step(1)
    with pytest.raises(ZooError, match=r"model\.layers\.2\."):
        reference.step(2)
