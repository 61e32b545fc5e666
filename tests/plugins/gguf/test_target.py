"""Files that llama.cpp opens: read back by the package gguf, and run by llama.cpp itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.checkpoints import make_checkpoint, make_of_type
from zoo.testing.checkpoint import write_tokenizer

gguf = pytest.importorskip("gguf")
NUMBERS = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "vocab_size": 320}
TENSORS = {
    "token_embd": "model.embed_tokens", "output": "lm_head", "output_norm": "model.norm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
}  # fmt: skip


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    make_checkpoint(folder, dtype="bfloat16", **NUMBERS)
    write_tokenizer(folder)
    return folder


def build(folder: Path, output: Path, precision: str, **choices: Any) -> Path:
    return zoo.build(folder, precision, output=output, target="gguf", **choices).path


def pairs(package: Path, original: Path, *, permuted: bool = True) -> list[tuple[Any, np.ndarray]]:
    """Each tensor of the file as the package gguf reads it, and the original's values in llama.cpp's order."""
    from safetensors.torch import load_file

    weights = load_file(original / "model.safetensors")
    found = []
    for tensor in gguf.GGUFReader(package / "model.gguf").tensors:
        *layer, stem, kind = tensor.name.split(".")
        name = f"model.layers.{layer[1]}.{TENSORS[stem]}" if layer else TENSORS[stem]
        values = weights[f"{name}.{kind}"].float().numpy()
        if permuted and stem in ("attn_q", "attn_k"):  # convert_hf_to_gguf.py's LlamaModel.permute
            heads = {"attn_q": 4, "attn_k": 2}[stem]
            turned = values.reshape(heads, 2, len(values) // heads // 2, *values.shape[1:])
            values = np.ascontiguousarray(turned.swapaxes(1, 2).reshape(values.shape))
        found.append((tensor, values))
    assert len(found) == len(weights)
    return found


def test_q8_0_is_the_converters_to_the_byte(llama, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    halves = shutil.copytree(llama, tmp_path / "halves")
    weights = load_file(halves / "model.safetensors")
    for name in ("model.layers.0.mlp.up_proj.weight", "model.layers.1.self_attn.q_proj.weight"):
        values = torch.randint(-254, 255, weights[name].shape, generator=torch.Generator().manual_seed(5)) / 2
        values[:, ::32] = 127  # the scale is 1, so every other value lies half way between two levels
        weights[name] = values.bfloat16()
    save_file(weights, halves / "model.safetensors", {"format": "pt"})
    for tensor, values in pairs(build(halves, tmp_path / "out", "int8"), halves):
        kind = "F32" if values.ndim == 1 else "Q8_0"
        assert tensor.tensor_type.name == kind, tensor.name
        wanted = gguf.quants.quantize(values, tensor.tensor_type)
        assert np.array_equal(tensor.data.reshape(-1), wanted.reshape(-1)), tensor.name


@pytest.mark.parametrize(
    ("precision", "choices", "kind", "limit"),
    [
        ("int4", {}, "Q4_1", 0.51),
        ("int4", {"quantizer_options": {"symmetric": True}}, "Q4_0", 1.01),
        ("int8", {"quantizer": "rtn"}, "Q8_0", 0.55),
        ("fp16", {}, "F16", None),
        ("fp16", {"target_options": {"floats": "bfloat16"}}, "BF16", None),
    ],
)
def test_every_type_is_read_back(llama, tmp_path, precision, choices, kind, limit):
    for tensor, values in pairs(build(llama, tmp_path / "out", precision, **choices), llama):
        got = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(values.shape)
        if values.ndim == 1:
            assert tensor.tensor_type.name == "F32"
        elif "blk" in tensor.name:
            assert tensor.tensor_type.name == kind, tensor.name
        if values.ndim == 1 or limit is None:
            np.testing.assert_array_equal(
                got, values.astype(np.float16) if kind == "F16" and values.ndim > 1 else values
            )
        elif "blk" in tensor.name:
            steps = np.sort(np.unique(np.abs(np.diff(np.sort(got.reshape(-1, 32), 1), axis=1))))
            blocks = got.reshape(-1, 32)
            step = np.array([np.diff(np.unique(block)).min() for block in blocks])[:, None]
            assert (np.abs(blocks - values.reshape(-1, 32)) <= step * limit + 2e-3).mean() > 0.99, (
                tensor.name,
                steps[:3],
            )


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
def test_llama_cpp_continues_as_transformers_does(tmp_path, model_type):
    pytest.importorskip("xllamacpp", reason="llama.cpp: pip install xllamacpp")
    import torch

    from tests.plugins.gguf import llamacpp

    folder = tmp_path / "checkpoint"
    model = make_of_type(folder, model_type, **NUMBERS, head_dim=16, num_key_value_heads=2)
    write_tokenizer(folder)
    package = build(folder, tmp_path / "out", "fp16")
    prompt = [5, 300, 17, 42, 99]
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(12):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    text = "Once upon a time, 12 small tests."
    assert llamacpp.continuation(package / "model.gguf", prompt, 12) == ids[len(prompt) :]
    assert llamacpp.encoder(package / "model.gguf")(text) == zoo.Tokenizer(package).encode(text)
    assert (package / "Modelfile").read_text().startswith("FROM ./model.gguf\n")


ARCHITECTURES = (
    "gemma", "gemma2", "gemma3", "phi3", "stablelm", "olmo2", "granite", "smollm3", "exaone4", "glm", "chatglm",
    "falcon", "mixtral", "qwen3moe", "internlm2", "baichuan", "deepseek2", "deepseek3",
)  # fmt: skip


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_file_is_the_converters(tmp_path, arch):
    """Its tensors to the bit of F16, its numbers in llama.cpp, which goes on as transformers does."""
    pytest.importorskip("xllamacpp", reason="llama.cpp: pip install xllamacpp")
    import torch

    from tests.plugins.gguf import llamacpp, made, published
    from tests.plugins.gguf.test_source import NAMES, model_of, opened

    model = model_of(tmp_path / "in", arch)
    write_tokenizer(tmp_path / "in")
    path = build(tmp_path / "in", tmp_path / "out", "fp16") / "model.gguf"
    own = published.state(model, "chatglm") if arch == "chatglm" else model.state_dict()
    state = {name.removeprefix("transformer.") if arch == "chatglm" else name: value for name, value in own.items()}
    wanted = made.tensors(model, NAMES.get(arch, arch), state)
    if arch == "baichuan":  # its second version divides each row of the head by its length, here in the file
        with torch.no_grad():
            model.lm_head.weight.copy_(torch.nn.functional.normalize(model.lm_head.weight))
        wanted["output.weight"] = model.lm_head.weight.detach().numpy()
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        kind = np.float32 if values.ndim == 1 or "gate_inp" in name else np.float16
        close = 1e-3 if (arch, name) == ("baichuan", "output.weight") else 0
        np.testing.assert_allclose(found[name].data.reshape(values.shape), values.astype(kind), close, err_msg=name)
    assert opened(path).config["model_type"] == opened(tmp_path / "in").config["model_type"]
    prompt = list(range(5, 21))
    continued = llamacpp.continuation(path, prompt, 12)
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + continued])).logits[0, len(prompt) - 1 : -1]
    chosen = logits.gather(1, torch.tensor(continued)[:, None])[:, 0]
    assert (logits.max(-1).values - chosen < 0.05).all()


LATENT = {
    "qk_nope_head_dim": 32, "v_head_dim": 32, "q_lora_rank": 32, "intermediate_size": 128, "moe_intermediate_size": 64,
}  # fmt: skip
"""Widths of attention over a latent that blocks of 32 divide."""


@pytest.mark.parametrize(
    ("arch", "numbers", "rounded"),
    [
        ("mixtral", {"intermediate_size": 128}, ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")),
        ("deepseek3", LATENT, ("attn_k_b", "attn_v_b", "attn_kv_a_mqa", "ffn_down_exps", "ffn_up_shexp")),
    ],
)
def test_experts_and_latents_are_rounded_as_the_converter_does(tmp_path, arch, numbers, rounded):
    from tests.plugins.gguf import made
    from tests.plugins.gguf.test_source import NAMES, model_of
    from zoo.package.layout import lay_out
    from zoo.plugins import host
    from zoo.stages.locations import path_location
    from zoo.verify.weights import weight_errors

    model = model_of(tmp_path / "in", arch, **numbers)
    for name, values in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            values[:] = values.new_tensor([0.5, -0.25, 0.125, 0.0])
            model.save_pretrained(tmp_path / "in")
    package = zoo.build(tmp_path / "in", "int8", output=tmp_path / "out", target="gguf")
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(package.path / "model.gguf").tensors}
    wanted = made.tensors(model, NAMES[arch])
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        kind = found[name].tensor_type
        assert kind.name == "Q8_0" or not any(stem in name for stem in rounded), name
        assert tuple(found[name].shape) == values.shape[::-1]
        assert np.array_equal(found[name].data.reshape(-1), gguf.quants.quantize(values, kind).reshape(-1)), name
    layout = lay_out(package.manifest.recipe, host().registry)
    original = path_location(host().registry, tmp_path / "in").open(host().registry)
    errors = weight_errors(layout, original, layout.target.read_back(package))
    assert len(errors) == len(wanted)
    assert max(error.share for error in errors) <= 1


def test_stretched_frequencies_lie_in_the_file(tmp_path):
    from zoo_gguf.source import GgufFiles

    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 500000.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    make_checkpoint(tmp_path / "in", **NUMBERS, rope_parameters=scaling, max_position_embeddings=131072)
    write_tokenizer(tmp_path / "in")
    package = build(tmp_path / "in", tmp_path / "out", "int8")
    opened = GgufFiles().open(str(package / "model.gguf"), revision=None, offline=True)
    stretched = opened.config["rope_scaling"]
    assert {name: scaling[name] for name in stretched} == stretched


@pytest.mark.parametrize("quantizer", ["gptq", "awq"])
def test_calibrated_levels_follow_the_order_of_rows(llama, tmp_path, quantizer):
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a small model. " * 200)
    package = build(
        llama, tmp_path / "out", "int4", quantizer=quantizer, calibration=text, samples=2, sequence_length=32
    )
    for tensor, values in pairs(package, llama):
        if "attn_q." in tensor.name or "attn_k." in tensor.name:
            got = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(values.shape)
            rows = (got * values).sum(1) / np.sqrt((got**2).sum(1) * (values**2).sum(1))
            assert rows.min() > 0.9, tensor.name


@pytest.mark.parametrize("arch", ["internlm2", "deepseek3"])
def test_tensors_that_lie_apart_are_calibrated(tmp_path, arch):
    """Rows of joined tensors, swapped axes and heads that the computation widens reach the quantizer as stored."""
    from tests.plugins.gguf import made
    from tests.plugins.gguf.test_source import NAMES, model_of

    model = model_of(tmp_path / "in", arch, **(LATENT if arch == "deepseek3" else {"intermediate_size": 128}))
    write_tokenizer(tmp_path / "in")
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a small model. " * 200)
    package = build(
        tmp_path / "in", tmp_path / "out", "int4", quantizer="gptq", calibration=text, samples=2, sequence_length=32
    )
    wanted = made.tensors(model, NAMES.get(arch, arch))
    for tensor in gguf.GGUFReader(package / "model.gguf").tensors:
        values = wanted[tensor.name]
        got = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(values.shape)
        assert np.linalg.norm(got - values) <= 0.25 * np.linalg.norm(values), tensor.name


def test_an_interrupted_build_ends_in_the_same_bytes(llama, tmp_path):
    class Stopped(Exception):
        pass

    def stop(progress: Any) -> None:
        raise Stopped

    whole = build(llama, tmp_path / "whole", "int8")
    with pytest.raises(Stopped):
        build(llama, tmp_path / "again", "int8", progress=stop)
    again = build(llama, tmp_path / "again", "int8", threads=3)
    assert (whole / "model.gguf").read_bytes() == (again / "model.gguf").read_bytes()


@pytest.mark.parametrize(
    ("precision", "options", "reason"),
    [
        ("int8", {"block_size": 128}, "stores blocks of 32 columns, not of 64; choose --block-size 32"),
        ("int8", {"symmetric": False}, "has no 8-bit blocks with zero points"),
    ],
)
def test_blocks_that_ggml_does_not_have(llama, tmp_path, precision, options, reason):
    with pytest.raises(zoo.ZooError, match=reason):
        build(llama, tmp_path / "out", precision, quantizer="rtn", quantizer_options=options)
    assert not (tmp_path / "out").exists()


def test_rows_that_blocks_do_not_divide_stay_floats_by_the_option_that_is_named(tmp_path):
    make_checkpoint(tmp_path / "m", dtype="bfloat16", **{**NUMBERS, "intermediate_size": 80})
    with pytest.raises(zoo.ZooError, match=r"do not divide the 80 columns .*'keep=(.*)'") as caught:
        build(tmp_path / "m", tmp_path / "out", "int4")
    keep = json.loads(str(caught.value).split("keep=")[1].rstrip("'"))
    assert build(tmp_path / "m", tmp_path / "out", "int4", quantizer_options={"keep": keep}).is_dir()


UNEVEN = {
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64, "mscale": 1.0,
    "mscale_all_dim": 0.5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("arch", "numbers", "reason"),
    [
        ("qwen3moe", {"norm_topk_prob": False}, "norm_topk_prob"),
        ("gemma2", {"query_pre_attn_scalar": 40}, "query_pre_attn_scalar"),
        (
            "exaone4",
            {"sliding_window": 8, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]},
            "layer_types",
        ),
        ("smollm3", {"no_rope_layers": [1, 0, 1, 0]}, "no_rope_layers"),
        ("deepseek2", {"num_hidden_layers": 3}, "with 3 layers and no q_lora_rank: llama.cpp takes that of 26 or 27"),
        ("deepseek3", {"rope_interleave": False}, "none of .* computes this model's .*kv_lora_rank"),
        ("deepseek3", {"rope_parameters": UNEVEN}, "YaRN's mscale 1.0 and mscale_all_dim 0.5, not one number"),
        (
            "deepseek2",
            {"n_group": 2, "topk_group": 1, "topk_method": "group_limited_greedy"},
            "groups of experts ranked by their best one: llama.cpp ranks them by the sum of their best two",
        ),
    ],
)
def test_a_model_that_none_of_the_written_architectures_computes(tmp_path, arch, numbers, reason):
    from tests.plugins.gguf.test_source import model_of

    model_of(tmp_path / "in", arch, **numbers)
    with pytest.raises(zoo.ZooError, match=rf"target 'gguf'.*{reason}"):
        build(tmp_path / "in", tmp_path / "out", "int8")
