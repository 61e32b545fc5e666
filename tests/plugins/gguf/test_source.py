"""GGUF files as sources of weights: tensors and numbers of the models that they were made of."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import zoo
from tests.checkpoints import make_of_type
from tests.plugins.gguf.test_tokenizer import byte_pairs
from tests.stages.test_takeover import tile_of
from zoo.cli import app
from zoo.decoder.config import read_config
from zoo.plugins import host
from zoo.sources.folder import open_folder
from zoo.stages.locations import path_location

pytest.importorskip("gguf", reason="writes the files")
from zoo_gguf.architectures import ARCHITECTURES, VARIANTS

from tests.plugins.gguf import made, published

LATENT = {
    "kv_lora_rank": 32, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 16, "num_key_value_heads": 4,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 48,
    "first_k_dense_replace": 1, "routed_scaling_factor": 1.5, "head_dim": 8, "n_group": 1, "topk_group": 1,
}  # fmt: skip
MORE = {
    "gemma": {"head_dim": 32}, "gemma2": {"head_dim": 32, "sliding_window": 8}, "gemma3": {"sliding_window": 8},
    "cohere2": {"sliding_window": 8}, "exaone4": {"sliding_window": None, "layer_types": ["full_attention"] * 4},
    "stablelm": {"use_qkv_bias": True},
    "stablelm12": {"qk_layernorm": True, "use_parallel_residual": True}, "command-r": {"tie_word_embeddings": True},
    "smollm3": {"tie_word_embeddings": True},
    "granite": {"attention_multiplier": 0.2, "residual_multiplier": 0.5, "embedding_multiplier": 3.0,
                "logits_scaling": 2.0},
    "qwen3moe": {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "norm_topk_prob": True},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "baichuan": {"num_key_value_heads": 4}, "glm": {"attention_bias": True}, "chatglm": {"attention_bias": True},
    "falcon": {"num_kv_heads": 1, "num_key_value_heads": 1, "ffn_hidden_size": 112, "bias": False},
    "deepseek2": {**LATENT, "q_lora_rank": None, "topk_method": "greedy", "scoring_func": "softmax",
                  "norm_topk_prob": False, "first_k_dense_replace": 25},
    "deepseek3": {**LATENT, "q_lora_rank": 24, "n_group": 2, "topk_group": 1, "norm_topk_prob": True,
                  "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "beta_fast": 32.0,
                                      "beta_slow": 1.0, "mscale": 0.7, "mscale_all_dim": 0.7,
                                      "original_max_position_embeddings": 64}},
}  # fmt: skip
NAMES = {"stablelm12": "stablelm", "mixtral": "llama", "glm": "chatglm", "deepseek3": "deepseek2"}
KNOWN = {
    **{name: arch for name, arch in ARCHITECTURES.items() if name != "bert"},
    **{name: VARIANTS[there][1] if there in VARIANTS else ARCHITECTURES[there] for name, there in NAMES.items()},
}
LAYERS = {"gemma3": 6, "exaone4": 4, "cohere2": 4, "smollm3": 4, "baichuan": 32, "deepseek2": 26}
"""What the kinds of layers take, or what llama.cpp knows Baichuan 7B and DeepSeek V2 Lite by."""


def model_of(folder, arch: str, **more):
    numbers = {"head_dim": 16, "num_hidden_layers": LAYERS.get(arch, 2), **MORE.get(arch, {}), **more}
    if "query_pre_attn_scalar" not in numbers and arch in ("gemma2", "gemma3"):
        numbers["query_pre_attn_scalar"] = numbers["head_dim"]
    numbers |= {"vocab_size": len(byte_pairs()["tokenizer.ggml.tokens"]), "bos_token_id": 0}
    model_type = KNOWN[arch].model_type
    if arch == "falcon":
        del numbers["head_dim"]
    model = make_of_type(folder, published.COMPUTED_AS.get(model_type, model_type), **numbers)
    if model_type in published.COMPUTED_AS:
        published.save(folder, model, model_type)
    return model


def write(path, arch: str, model, **choices):
    """Write a model as the converter does; it keeps what ChatGLM's own checkpoints have in one tensor."""
    if arch == "chatglm":
        own = published.state(model, "chatglm")
        choices["state"] = {name.removeprefix("transformer."): weight for name, weight in own.items()}
    return made.write(path, model, NAMES.get(arch, arch), byte_pairs(), **choices)


def opened(path):
    return path_location(host().registry, path).open(host().registry)


def values(checkpoint, name: str) -> np.ndarray:
    info = checkpoint.tensors[name]
    return checkpoint.read(name, 0, int(np.prod(info.shape[:-1])) if len(info.shape) > 1 else info.shape[0])


@pytest.mark.parametrize("arch", KNOWN)
def test_tensors_and_numbers_are_the_models(tmp_path, arch) -> None:
    model = model_of(tmp_path / "ck", arch)
    path = write(tmp_path / "m.gguf", arch, model)
    checkpoint = opened(path)
    wanted = {name: weight.numpy() for name, weight in published.state(model, KNOWN[arch].model_type).items()}
    assert checkpoint.tensors.keys() == wanted.keys()
    for name, weight in wanted.items():
        assert checkpoint.tensors[name].shape == weight.shape
        assert np.allclose(values(checkpoint, name), weight, rtol=0, atol=2e-7), name
    family = host().registry.claimant(KNOWN[arch].model_type)
    if family is not None:
        implied = family.family.claim(KNOWN[arch].model_type).model_dump(exclude_unset=True)
        folder = open_folder(tmp_path / "ck")
        assert read_config(checkpoint.config, implied) == read_config(folder.config, implied)


@pytest.mark.parametrize("arch", KNOWN)
def test_files_mean_to_llama_cpp_what_they_mean_here(tmp_path, arch) -> None:
    """Greedy tokens of llama.cpp are those of the model that our tests' writer made the file of."""
    pytest.importorskip("xllamacpp", reason="llama.cpp: pip install xllamacpp")
    import torch

    from tests.plugins.gguf import llamacpp

    model = model_of(tmp_path / "ck", arch)
    path = write(tmp_path / "m.gguf", arch, model)
    prompt = list(range(5, 21))
    continued = llamacpp.continuation(path, prompt, 12)
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + continued])).logits[0, len(prompt) - 1 : -1]
    best, second = logits.topk(2).values.T
    chosen = logits.gather(1, torch.tensor(continued)[:, None])[:, 0]
    assert (best - chosen < 0.05).all(), (best - chosen, best - second)


@pytest.mark.parametrize(("split", "precision"), [(0, "int8"), (7, "fp32")])
def test_a_file_builds_runs_and_is_verified(tmp_path, split, precision) -> None:
    """The package of a file is that of the folder with the same weights."""
    model = model_of(tmp_path / "ck", "llama")
    path = made.write(
        tmp_path / "m.gguf", model, "llama", {**byte_pairs(), "general.license": "apache-2.0"}, split=split
    )
    if split:
        path = sorted(tmp_path.glob("m-*.gguf"))[1]
    run = CliRunner().invoke
    for source, out in ((path, "out"), (tmp_path / "ck", "same")):
        # Random weights have no outliers; scales from random tokens only add to their rounding.
        done = run(app, ["build", str(source), "-p", precision, "-o", str(tmp_path / out), "--smoothing", "none"])
        assert done.exit_code == 0, done.output
    data = [(tmp_path / out / "model.onnx.data").read_bytes() for out in ("out", "same")]
    assert data[0] == data[1]
    manifest = json.loads((tmp_path / "out" / "zoo.json").read_text())
    assert manifest["recipe"]["licence"]["id"] == "apache-2.0"
    done = run(app, ["verify", str(tmp_path / "out"), "--weights", str(path), "--quick"])
    assert done.exit_code == 0, done.output
    done = run(app, ["run", str(tmp_path / "out"), "dog", "--max-new-tokens", "3"])
    assert done.exit_code == 0, done.output
    assert done.output


@pytest.mark.parametrize("arch", ["internlm2", "baichuan", "chatglm", "glm", "falcon", "deepseek2", "deepseek3"])
def test_the_package_of_a_file_is_that_of_the_folder(tmp_path, arch) -> None:
    """Whatever the file joins, splits or turns over."""
    few = {"num_hidden_layers": 2} | ({"first_k_dense_replace": 1} if "deepseek" in arch else {})
    model = model_of(tmp_path / "ck", arch, **few)
    path = write(tmp_path / "m.gguf", arch, model)
    built = [
        zoo.build(source, "int8", output=tmp_path / out, smoothing="none")
        for source, out in ((path, "out"), (tmp_path / "ck", "same"))
    ]
    data = [(package.path / "model.onnx.data").read_bytes() for package in built]
    assert data[0] == data[1]
    graphs = [(package.path / "model.onnx").read_bytes() for package in built]
    assert graphs[0] == graphs[1]


def test_scores_that_fall_with_the_distance(tmp_path) -> None:
    """Baichuan's 13B is known by its 40 layers; llama.cpp goes on as the package does, whose head is normalised."""
    pytest.importorskip("xllamacpp", reason="llama.cpp: pip install xllamacpp")
    import torch

    from tests.plugins.gguf import llamacpp

    model = model_of(tmp_path / "ck", "baichuan", num_hidden_layers=40)
    model.lm_head.weight.data = torch.nn.functional.normalize(model.lm_head.weight.data)
    path = write(tmp_path / "m.gguf", "baichuan", model)
    package = zoo.build(path, "fp32", output=tmp_path / "out")
    assert package.manifest.recipe.architecture.positions == "alibi"
    prompt = list(range(5, 21))
    continued = llamacpp.continuation(path, prompt, 12)
    logits = zoo.open(package.path).logits([*prompt, *continued])[len(prompt) - 1 : -1]
    assert (logits.max(-1) - logits[range(12), continued] < 0.01).all()


def test_parts_of_other_types_are_joined_as_float32(tmp_path) -> None:
    """As llama.cpp's mixtures of types store values apart from queries and keys."""
    import gguf

    model = model_of(tmp_path / "ck", "internlm2")
    plain = made.tensors(model, "internlm2")
    kinds = {"attn_k": gguf.GGMLQuantizationType.BF16, "attn_v": gguf.GGMLQuantizationType.Q8_0}
    replaced = {
        f"blk.1.{short}.weight": (gguf.quants.quantize(plain[f"blk.1.{short}.weight"], kind), kind)
        for short, kind in kinds.items()
    }
    checkpoint = opened(write(tmp_path / "m.gguf", "internlm2", model, kind="Q8_0", replaced=replaced))
    names = [f"model.layers.{layer}.attention.wqkv.weight" for layer in (0, 1)]
    assert [checkpoint.block_scheme(name) is None for name in names] == [False, True]
    wanted = published.state(model, "internlm2")[names[1]].numpy()
    read = values(checkpoint, names[1])
    assert read.dtype == np.float32
    assert np.abs(read - wanted).max() < 0.02
    assert np.array_equal(np.concatenate([checkpoint.read(names[1], at, at + 32) for at in range(0, 128, 32)]), read)
    stored, dequantized = checkpoint.read_blocks(names[0], 8, 120), values(checkpoint, names[0])[8:120]
    levels = (stored.levels.astype(np.float32) - 128) * stored.scales[..., None]
    assert np.array_equal(levels.reshape(dequantized.shape), dequantized)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_types_are_read_as_gguf_reads_them(tmp_path, kind) -> None:
    """Rows of every slab are those of the whole, whatever the type; the package gguf writes these itself."""
    import gguf

    model = model_of(tmp_path / "ck", "llama")
    checkpoint = opened(made.write(tmp_path / "m.gguf", model, "llama", byte_pairs(), kind=kind))
    number = gguf.GGMLQuantizationType[kind]
    for name, weight in model.state_dict().items():
        rows = values(checkpoint, name)
        if checkpoint.tensors[name].dtype == "BF16":
            rows = (rows.astype(np.uint32) << 16).view(np.float32)
        if rows.ndim == 2 and rows.shape[1] % 32 == 0:
            written = gguf.quants.quantize(weight.numpy(), number)
            weight = gguf.quants.dequantize(written, number).reshape(rows.shape)
        assert np.array_equal(rows, np.asarray(weight)), name
    name = "model.layers.1.self_attn.q_proj.weight"
    pieces = [checkpoint.read(name, start, min(start + 5, 64)) for start in range(0, 64, 5)]
    assert np.array_equal(np.concatenate(pieces), values(checkpoint, name))
    into = np.zeros(64 * 64 * 4, np.uint8)
    assert np.shares_memory(checkpoint.read(name, 3, 9, into), into)


def test_scaled_positions(tmp_path) -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192}  # fmt: skip
    parameters = {"rope_theta": 500000.0, **scaling}
    model = model_of(tmp_path / "ck", "llama", rope_parameters=parameters, max_position_embeddings=65536, head_dim=32)
    plain = 500000.0 ** (-np.arange(0, 32, 2) / 32)
    factors = plain / model.model.rotary_emb.inv_freq.numpy()
    checkpoint = opened(made.write(tmp_path / "m.gguf", model, "llama", byte_pairs(), factors=factors))
    assert checkpoint.config["rope_scaling"] == scaling
    yarn = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0, "rope__scaling__original_context_length": 64}
    checkpoint = opened(made.write(tmp_path / "n.gguf", model, "llama", byte_pairs(), **yarn))
    stated = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    assert checkpoint.config["rope_scaling"] == stated


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_blocks_hold_what_floats_say(tmp_path, kind) -> None:
    checkpoint = opened(
        made.write(tmp_path / "m.gguf", model_of(tmp_path / "ck", "llama"), "llama", byte_pairs(), kind=kind)
    )
    for name in ("model.layers.0.self_attn.k_proj.weight", "model.layers.1.mlp.gate_proj.weight"):
        scheme, rows = checkpoint.block_scheme(name), values(checkpoint, name)
        tile = checkpoint.read_blocks(name, 3, 21)
        floats = tile.scales[..., None] * (tile.levels.astype(np.float32) - 2 ** (scheme.bits - 1))
        assert np.array_equal(floats.reshape(18, -1), rows[3:21])
        assert (tile.start, tile.stop) == (3, 21)
    assert checkpoint.block_scheme("model.norm.weight") is None


def test_every_type_that_the_package_dequantizes(tmp_path) -> None:
    """Random blocks of every type come as the package gguf reads the whole tensor; other types are refused by name."""
    import gguf
    from gguf.quants import _type_traits

    from zoo.errors import ZooError

    model = model_of(tmp_path / "ck", "llama", hidden_size=256, num_attention_heads=4, head_dim=64, num_hidden_layers=1)
    draw = np.random.default_rng(0)
    name = "model.layers.0.mlp.gate_proj.weight"
    for kind, (block, size) in gguf.GGML_QUANT_SIZES.items():
        if kind.name in ("F32", "F16", "BF16"):
            continue
        raw = draw.integers(0, 256, (112, 256 // block * size), np.uint8)
        path = made.write(
            tmp_path / "m.gguf", model, "llama", byte_pairs(), replaced={"blk.0.ffn_gate.weight": (raw, kind)}
        )
        if kind not in _type_traits:
            with pytest.raises(ZooError, match=f"is of type {kind.name}, which the package gguf does not dequantize"):
                opened(path)
            continue
        with np.errstate(all="ignore"):
            wanted = gguf.quants.dequantize(raw, kind)
        checkpoint = opened(path)
        assert checkpoint.tensors[name].shape == (112, 256)
        rows = np.concatenate([checkpoint.read(name, start, start + 28) for start in range(0, 112, 28)])
        assert np.array_equal(rows, wanted, equal_nan=True), kind.name


@pytest.mark.parametrize(("kind", "precision"), [("Q8_0", "int8"), ("Q4_0", "int4")])
def test_levels_reach_the_package_as_the_file_has_them(tmp_path, kind, precision) -> None:
    path = made.write(
        tmp_path / "m.gguf", model_of(tmp_path / "ck", "llama", intermediate_size=96), "llama", byte_pairs(), kind=kind
    )
    shown = json.loads(invoked("show", str(path), "--json"))
    assert (shown["format"], shown["quantization"], shown["rounded"]) == ("gguf", kind, 0)
    planned = json.loads(invoked("build", str(path), "-p", precision, "--dry-run", "--json"))
    assert (planned["format"], planned["quantization"], planned["rounded"]) == ("gguf", kind, 0)
    assert planned["read_bytes"] == path.stat().st_size
    package = zoo.build(path, precision, output=tmp_path / "out")
    assert package.manifest.recipe.taken_over
    checkpoint = opened(path)
    for layer, name in ((0, "mlp.down_proj"), (1, "self_attn.o_proj")):
        stored = checkpoint.read_blocks(f"model.layers.{layer}.{name}.weight", 0, 64)
        tile = tile_of(package, f"model.layers.{layer}.{name.replace('self_attn', 'attn')}.weight")
        assert np.array_equal(tile.levels, stored.levels)
        assert np.array_equal(tile.scales, stored.scales)
    taken = sum(np.prod(checkpoint.tensors[name].shape) for name in checkpoint.tensors if checkpoint.block_scheme(name))
    assert shown["taken_over"] == planned["taken_over"] == taken


@pytest.mark.parametrize("arch", ["mixtral", "qwen3moe"])
def test_experts_are_taken_over_and_run(tmp_path, arch) -> None:
    """What the file holds of all experts in one tensor reaches the package as integers; llama.cpp's layout, ours."""
    model = model_of(tmp_path / "ck", arch, intermediate_size=64, moe_intermediate_size=64)
    path = write(tmp_path / "m.gguf", arch, model, kind="Q8_0")
    package = zoo.build(path, "int8", output=tmp_path / "out")
    assert {"mlp.experts.gate_up", "mlp.experts.down"} <= set(package.manifest.recipe.taken_over)
    name = "block_sparse_moe.experts.3.w3" if arch == "mixtral" else "mlp.experts.3.up_proj"
    stored = opened(path).read_blocks(f"model.layers.1.{name}.weight", 0, 64)
    tile = tile_of(package, "model.layers.1.mlp.experts.gate_up.weight")
    assert np.array_equal(tile.levels[3 * 128 + 1 : 4 * 128 : 2], stored.levels)  # rows of gate and up in turn
    assert np.array_equal(tile.scales[3 * 128 + 1 : 4 * 128 : 2], stored.scales)
    zoo.build(path, "fp32", output=tmp_path / "plain")
    assert invoked("verify", str(tmp_path / "plain"), "--weights", str(path), "--quick")


def test_other_types_are_rounded_again_and_that_is_said(tmp_path, caplog) -> None:
    model = model_of(tmp_path / "ck", "llama", intermediate_size=96)
    path = made.write(tmp_path / "m.gguf", model, "llama", byte_pairs(), kind="Q5_0")
    planned = json.loads(invoked("build", str(path), "-p", "int8", "--dry-run", "--json"))
    assert (planned["quantization"], planned["taken_over"]) == ("Q5_0", 0)
    assert planned["rounded"] > 0.9 * planned["parameters"]
    assert "weights are rounded a second time: Q5_0 becomes 8-bit blocks of" in caplog.text
    assert "weights: gguf, Q5_0: 0 parameters taken over" in invoked("show", str(path))


def invoked(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout
