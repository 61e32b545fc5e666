"""Mixtures of experts: a package against transformers, from separate and from fused tensors."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.checkpoints import SMALL, edit_config, make_of_type
from tests.decoder.stepping import prompt
from zoo.decoder import Decoder
from zoo.errors import ZooError
from zoo.plugins import host
from zoo.stages import pipeline

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

FEW = {"num_local_experts": 6, "num_experts_per_tok": 2}
MANY = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 48, "head_dim": 24}
VARIATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "gqa": ("mixtral", FEW),
    "mha-one-expert-a-token": ("mixtral", {**FEW, "num_experts_per_tok": 1, "num_key_value_heads": 4}),
    "mqa-all-experts": ("mixtral", {**FEW, "num_experts_per_tok": 6, "num_key_value_heads": 1}),
    "unnormalized": ("qwen3_moe", {**MANY, "norm_topk_prob": False}),
    "shared": ("qwen2_moe", {**MANY, "head_dim": 16, "shared_expert_intermediate_size": 80}),
    "normalized": ("qwen3_moe", {**MANY, "norm_topk_prob": True, "tie_word_embeddings": True}),
}


def greedy_of(model: Any, tokens: list[int], count: int) -> list[int]:
    ids = torch.tensor([tokens])
    with torch.no_grad():
        longer = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=0
        )
    return longer[0, len(tokens) :].tolist()


def logits_of(model: Any, tokens: list[int]) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


@pytest.mark.parametrize("name", VARIATIONS)
def test_it_computes_what_transformers_computes(name: str, tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.WARNING, "zoo")
    model_type, numbers = VARIATIONS[name]
    model = make_of_type(tmp_path / "checkpoint", model_type, **numbers)
    engine = zoo.open(zoo.build(str(tmp_path / "checkpoint"), "fp32", output=tmp_path / "package").path)
    tokens = prompt(100)
    wanted = logits_of(model, tokens)
    assert wanted.std() > 0.5, "logits this flat would hide a difference"
    assert float(np.abs(engine.logits(tokens) - wanted).max()) <= 1e-3
    generated = engine.generate(tokens[:5], max_new_tokens=200, ignore_eos=True).token_ids
    assert generated == greedy_of(model, tokens[:5], 200)
    assert not [record for record in caplog.records if "not known" in record.getMessage()]


SINKS = {
    "num_local_experts": 6, "num_experts_per_tok": 2, "hidden_size": 64, "intermediate_size": 96, "head_dim": 24,
    "sliding_window": 9, "swiglu_limit": 1.5, "initializer_range": 0.3,
}  # fmt: skip


def make_mxfp4(folder: Path) -> Any:
    """A random model with sinks, biases and clamped gates, its experts in MXFP4 as published; return it as it reads."""
    from safetensors.torch import load_file, save_file
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    model = make_of_type(folder, "gpt_oss", **SINKS)
    tensors, generator = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(0)
    state = model.state_dict()
    for name in [name for name in tensors if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        count, columns, rows = tensors.pop(name).shape
        blocks = torch.randint(0, 256, (count, rows, columns // 32, 16), generator=generator, dtype=torch.uint8)
        scales = torch.randint(123, 126, blocks.shape[:-1], generator=generator, dtype=torch.uint8)
        tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        state[name] = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    edit_config(folder, quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})
    model.load_state_dict(state)
    return model


def test_sinks_biases_and_clamped_gates_from_mxfp4(tmp_path: Path, caplog: Any) -> None:
    """Logits, 200 greedy tokens, blocks of 4 bits, and what zoo verify compares with."""
    from zoo.stages.request import Request
    from zoo.verify.references import all_logits, find_reference

    caplog.set_level(logging.WARNING, "zoo")
    model, tokens = make_mxfp4(tmp_path / "checkpoint"), prompt(100)
    wanted = logits_of(model, tokens)
    engine = zoo.open(zoo.build(str(tmp_path / "checkpoint"), "fp32", output=tmp_path / "fp32").path)
    assert float(np.abs(engine.logits(tokens) - wanted).max()) <= 1e-3
    generated = engine.generate(tokens[:5], max_new_tokens=200, ignore_eos=True).token_ids
    assert generated == greedy_of(model, tokens[:5], 200)
    assert not [record for record in caplog.records if "not known" in record.getMessage()]
    pinned = pipeline.pin(host().registry, Request(str(tmp_path / "checkpoint"), "int4"))
    reference = find_reference(pinned.resolved.checkpoint, Decoder(), pinned.recipe.architecture)
    assert reference.name == "transformers"
    np.testing.assert_allclose(all_logits(reference, tokens), wanted, atol=1e-3)
    package = pipeline.build(host().registry, pinned, tmp_path / "int4", threads=1).package
    off = np.sqrt(np.mean((zoo.open(package.path).logits(tokens) - wanted) ** 2, -1))
    assert float(np.median(off) / wanted.std()) < 0.8


@pytest.mark.parametrize("width", [96, 32], ids=["wider", "as wide as hidden"])
def test_experts_that_are_stored_as_floats_have_their_axes_swapped(tmp_path: Path, width: int) -> None:
    """As transformers saves them; where both axes are as long, shapes do not tell."""
    from zoo.stages.verify import verify

    model = make_of_type(tmp_path / "checkpoint", "gpt_oss", dtype="bfloat16", **{**SINKS, "intermediate_size": width})
    tokens = prompt(100)
    wanted = logits_of(model, tokens)
    package = zoo.build(str(tmp_path / "checkpoint"), "fp32", output=tmp_path / "fp32")
    engine = zoo.open(package.path)
    assert float(np.abs(engine.logits(tokens) - wanted).max()) <= 1e-3
    generated = engine.generate(tokens[:5], max_new_tokens=200, ignore_eos=True).token_ids
    assert generated == greedy_of(model, tokens[:5], 200)
    assert verify(host().registry, str(package.path), weights=str(tmp_path / "checkpoint"), quick=True).verdict.passed
    last = zoo.plan(str(tmp_path / "checkpoint"), "int8").writes[-1]
    rounded = zoo.build(str(tmp_path / "checkpoint"), "int8", output=tmp_path / "int8")
    assert rounded.manifest.files["model.onnx.data"].size == last.offset + last.nbytes
    off = np.sqrt(np.mean((zoo.open(rounded.path).logits(tokens) - wanted) ** 2, -1))
    assert float(np.median(off) / wanted.std()) < 0.25


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
@pytest.mark.parametrize("name", ["gqa", "unnormalized"])
def test_every_precision_stays_near(name: str, precision: str, tmp_path: Path) -> None:
    model_type, numbers = VARIATIONS[name]
    model = make_of_type(tmp_path / "checkpoint", model_type, **numbers)
    package = zoo.build(str(tmp_path / "checkpoint"), precision, output=tmp_path / "package").path
    tokens = prompt(60)
    wanted = logits_of(model, tokens)
    # The median: where weights are rounded a router now and then chooses another expert for a token.
    off = np.sqrt(np.mean((zoo.open(package).logits(tokens) - wanted) ** 2, -1))
    assert float(np.median(off) / wanted.std()) < {"fp16": 0.01, "int8": 0.25, "int4": 0.8}[precision]


@pytest.mark.parametrize("name", ["gqa", "unnormalized"])
def test_experts_in_one_tensor_build_the_same(name: str, tmp_path: Path) -> None:
    """transformers 5 holds all experts of a layer in two tensors, and some save them so."""
    from safetensors.torch import save_file

    model_type, numbers = VARIATIONS[name]
    model = make_of_type(tmp_path / "apart", model_type, **numbers)
    fused = tmp_path / "fused"
    fused.mkdir()
    (fused / "config.json").write_bytes((tmp_path / "apart" / "config.json").read_bytes())
    state = {name: values.contiguous() for name, values in model.state_dict().items()}
    assert state["model.layers.0.mlp.experts.gate_up_proj"].ndim == 3
    save_file(state, fused / "model.safetensors")
    built = [
        zoo.build(str(tmp_path / kind), "int8", output=tmp_path / f"{kind}-package").path for kind in ("apart", "fused")
    ]
    data = [(package / "model.onnx.data").read_bytes() for package in built]
    assert data[0] == data[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_local_experts": 7}, "num_experts and num_local_experts contradict"),
        ({"num_experts_per_tok": 7}, "num_experts_per_tok 7 of num_experts 6"),
        ({"hidden_act": "gelu"}, "experts of hidden_act 'gelu'"),
        ({"decoder_sparse_step": 2}, "decoder_sparse_step 2"),
        ({"mlp_only_layers": [1]}, "mlp_only_layers"),
        ({"num_experts": 2**30}, "num_experts"),
        ({"num_experts": 1000, "num_hidden_layers": 5000}, "too many"),
        ({"n_shared_experts": 1}, "n_shared_experts"),
    ],
)
def test_what_is_not_computed_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    family = host().registry.claimant("qwen3_moe")
    assert family is not None
    claim: Any = family.family.claim("qwen3_moe")
    with pytest.raises(ZooError, match=message) as caught:
        Decoder().read_config({**SMALL, **MANY, **changes}, claim.model_dump(exclude_unset=True))
    assert "\n" not in str(caught.value)


def test_a_dense_type_has_no_experts() -> None:
    with pytest.raises(ZooError, match="num_local_experts 6"):
        Decoder().read_config({**SMALL, **FEW}, {})
