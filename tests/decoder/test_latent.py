"""Attention over a latent and the routing that comes with it: a package against transformers' DeepSeek V2 and V3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.checkpoints import SMALL, edit_config, make_of_type
from tests.decoder.stepping import prompt
from tests.decoder.test_experts import greedy_of, logits_of
from zoo.decoder import Decoder
from zoo.errors import ZooError
from zoo.plugins import host

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

# A layer with one MLP, then layers with experts; keys wider than values.
NUMBERS: dict[str, Any] = {
    "num_hidden_layers": 3, "num_key_value_heads": 4, "first_k_dense_replace": 1, "n_routed_experts": 8,
    "num_experts_per_tok": 3, "moe_intermediate_size": 48, "kv_lora_rank": 48, "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8, "v_head_dim": 16,
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64,
    "mscale": 0.707, "mscale_all_dim": 0.707, "beta_fast": 32.0, "beta_slow": 1.0,
}  # fmt: skip
GROUPS = {"n_group": 4, "topk_group": 2}
VARIATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    # The widths of V2 Lite, an eighth of each, its four first layers.
    "v2-lite": ("deepseek_v2", {
        "num_hidden_layers": 4, "hidden_size": 256, "intermediate_size": 1368, "num_attention_heads": 2,
        "num_key_value_heads": 2, "moe_intermediate_size": 176, "num_experts_per_tok": 2, "n_shared_experts": 2,
        "q_lora_rank": None, "kv_lora_rank": 64, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "rope_parameters": YARN,
    }),
    "groups": ("deepseek_v2", {
        **GROUPS, "topk_method": "group_limited_greedy", "q_lora_rank": 40, "routed_scaling_factor": 16.0,
    }),
    "biased-sigmoids-in-groups": ("deepseek_v3", {**GROUPS, "q_lora_rank": 40, "rope_parameters": YARN}),
    "unnormalized-halves": ("deepseek_v3", {
        "n_group": 1, "topk_group": 1, "q_lora_rank": None, "norm_topk_prob": False, "rope_interleave": False,
    }),
}  # fmt: skip


def checkpoint(folder: Path, name: str) -> Any:
    """Save a random model whose routers have biases, and open it again."""
    import transformers

    model_type, numbers = VARIATIONS[name]
    model = make_of_type(folder, model_type, **{**NUMBERS, **numbers})
    biases = [values for key, values in model.named_buffers() if key.endswith("e_score_correction_bias")]
    for values in biases:
        torch.nn.init.normal_(values, 0.0, 0.5)
    if biases:
        model.save_pretrained(folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("name", VARIATIONS)
def test_it_computes_what_transformers_computes(name: str, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "checkpoint", name)
    tokens = prompt(100)
    wanted = logits_of(model, tokens)
    assert wanted.std() > 0.5, "logits this flat would hide a difference"
    engine = zoo.open(zoo.build(str(tmp_path / "checkpoint"), "fp32", output=tmp_path / "package").path)
    assert float(np.abs(engine.logits(tokens) - wanted).max()) <= 1e-3
    generated = engine.generate(tokens[:5], max_new_tokens=100, ignore_eos=True).token_ids
    assert generated == greedy_of(model, tokens[:5], 100)


def test_verification_fills_transformers_fused_experts(tmp_path: Path) -> None:
    """What `zoo verify` compares with reads a checkpoint's separate experts into transformers 5's tensors."""
    from zoo.stages.resolve import Request, resolve
    from zoo.verify.references import all_logits, find_reference

    tokens, registry = prompt(40), host().registry
    for name in ("v3", "mixtral"):
        if name == "v3":
            model = checkpoint(tmp_path / name, "biased-sigmoids-in-groups")
        else:
            model = make_of_type(tmp_path / name, "mixtral", num_local_experts=4)
        resolved = resolve(registry, Request(str(tmp_path / name), "fp32"))
        assert resolved.checkpoint is not None
        part, arch = registry.architecture("decoder"), resolved.recipe.architecture
        reference = find_reference(resolved.checkpoint, part, arch)
        assert reference.name == "transformers"
        assert float(np.abs(all_logits(reference, tokens) - logits_of(model, tokens)).max()) <= 1e-3


def in_fp8(folder: Path, plain: Path) -> None:
    """Write a checkpoint's projections as FP8 in blocks of 128, and what they then stand for into ``plain``."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    stood = dict(tensors)
    for name in [name for name in tensors if name.endswith("proj.weight") or ".kv_a_proj" in name]:
        rows, columns = tensors[name].shape
        most = torch.nn.functional.pad(tensors[name].abs(), (0, -columns % 128, 0, -rows % 128))
        scales = most.unflatten(1, (-1, 128)).unflatten(0, (-1, 128)).amax((1, 3)) / 448
        whole = scales.repeat_interleave(128, 0)[:rows].repeat_interleave(128, 1)[:, :columns]
        tensors[name] = (tensors[name] / whole).to(torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"], stood[name] = scales, tensors[name].float() * whole
    plain.mkdir()
    (plain / "config.json").write_bytes((folder / "config.json").read_bytes())
    for where, state in ((folder, tensors), (plain, stood)):
        save_file(state, where / "model.safetensors", metadata={"format": "pt"})
    method = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    edit_config(folder, quantization_config=method)


def test_fp8_in_blocks_from_plan_to_verification(tmp_path: Path) -> None:
    """As V3 and R1 are published: plan, build, and what `zoo verify` compares with."""
    import transformers

    from zoo.stages.resolve import Request, resolve
    from zoo.verify.references import all_logits, find_reference

    folder, tokens = tmp_path / "fp8", prompt(60)
    checkpoint(folder, "biased-sigmoids-in-groups")
    in_fp8(folder, tmp_path / "plain")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32).eval()
    wanted = logits_of(model, tokens)
    plan = zoo.plan(str(folder), "int8")
    package = zoo.build(str(folder), "int8", output=tmp_path / "int8")
    assert plan.quantization is not None
    assert "fp8" in plan.quantization.lower()
    assert plan.writes[-1].offset + plan.writes[-1].nbytes == package.manifest.files["model.onnx.data"].size
    engine = zoo.open(zoo.build(str(folder), "fp32", output=tmp_path / "fp32").path)
    assert float(np.abs(engine.logits(tokens) - wanted).max()) <= 1e-3
    registry = host().registry
    resolved = resolve(registry, Request(str(folder), "int8"))
    assert resolved.checkpoint is not None
    part, arch = registry.architecture("decoder"), resolved.recipe.architecture
    reference = find_reference(resolved.checkpoint, part, arch)
    assert reference.name == "transformers"
    assert float(np.abs(all_logits(reference, tokens) - wanted).max()) <= 1e-3


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("name", ["v2-lite", "biased-sigmoids-in-groups"])
def test_blocks_stay_near(name: str, precision: str, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "checkpoint", name)
    tokens = prompt(60)
    wanted = logits_of(model, tokens)
    package = zoo.build(str(tmp_path / "checkpoint"), precision, output=tmp_path / "package").path
    # The median: where weights are rounded a router now and then chooses another expert for a token.
    off = np.sqrt(np.mean((zoo.open(package).logits(tokens) - wanted) ** 2, -1))
    assert float(np.median(off) / wanted.std()) < {"int8": 0.25, "int4": 1.0}[precision]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 2}, "num_key_value_heads 2 of kv_lora_rank 48"),
        ({"v_head_dim": 32}, "v_head_dim 32"),
        ({"attention_bias": True}, "biases and norms of heads"),
        ({"n_group": 3}, "num_experts 8 in n_group 3"),
        ({"n_group": 4, "topk_group": 1}, "num_experts_per_tok 3 of 1 groups of 2"),
        ({"scoring_func": "tanh"}, "scoring_func"),
        ({"topk_method": "random"}, "topk_method"),
        ({"moe_layer_freq": 2}, "moe_layer_freq 2"),
    ],
)
def test_what_is_not_computed_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    family = host().registry.claimant("deepseek_v3")
    assert family is not None
    claim: Any = family.family.claim("deepseek_v3")
    with pytest.raises(ZooError, match=message) as caught:
        Decoder().read_config({**SMALL, **NUMBERS, **GROUPS, **changes}, claim.model_dump(exclude_unset=True))
    assert "\n" not in str(caught.value)


def test_the_picture_shows_latents_and_experts() -> None:
    from zoo.catalog.outline import outline

    registry = host().registry
    arch = registry.model("deepseek-v3").architecture
    blocks = [(block.name, block.note) for block in outline(registry.architecture("decoder"), arch).layer]
    assert blocks[1] == ("Projection", "7168 → 1536")
    assert ("8 of 256 experts", "gated MLPs 2048 wide, silu") in blocks
    assert ("Gated MLP", "2048 wide, silu") in blocks, "the MLP of every token"
