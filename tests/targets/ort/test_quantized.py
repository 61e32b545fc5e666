"""Quantized packages against transformers with the very weights that the package holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import zoo
from tests.checkpoints import make_checkpoint
from tests.decoder.stepping import Stepping, prompt

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "int8": ("int8", {}, {}),
    "int4": ("int4", {}, {}),
    "int8-16": ("int8", {}, {"block_size": 16}),
    "int4-asymmetric": ("int4", {}, {"symmetric": False}),
    "int8-asymmetric-tied": ("int8", {"tie_word_embeddings": True}, {"symmetric": False}),
    "int8-tied": ("int8", {"tie_word_embeddings": True}, {}),
    "int4-tied": ("int4", {"tie_word_embeddings": True}, {"embedding_bits": 4}),
    "int4-all": ("int4", {}, {"embedding_bits": 4, "head_bits": 4, "block_size": 64}),
    "int8-padded-heads": ("int8", {"head_dim": 8, "attention_bias": True}, {}),
    "int4-padded-heads": ("int4", {"head_dim": 20, "mlp_bias": True}, {}),
    "int8-odd-sizes": ("int8", {"hidden_size": 72, "head_dim": 16, "intermediate_size": 109, "vocab_size": 257}, {}),
    "int4-odd-tied": ("int4", {"hidden_size": 72, "head_dim": 16, "tie_word_embeddings": True}, {"symmetric": False}),
}


def dequantize(folder: Path) -> dict[str, np.ndarray]:
    """Every weight of a package by its name in the graph: scale · (q - zero point), padding of blocks cut off."""
    graph = onnx.load(folder / "model.onnx").graph
    arrays = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    weights = {name: values for name, values in arrays.items() if name.endswith((".weight", ".bias"))}
    for node in graph.node:
        if node.op_type not in ("MatMulNBits", "GatherBlockQuantized"):
            continue
        numbers = {one.name: one.i for one in node.attribute}
        stored = node.input[1] if node.op_type == "MatMulNBits" else node.input[0]
        scales = arrays[node.input[2].removesuffix("/Cast/output_0")].astype(np.float32)
        rows, blocks = scales.shape
        levels = unpack(arrays[stored].reshape(rows, -1), numbers["bits"]).reshape(rows, blocks, -1)
        zeros = np.full((rows, blocks), 2 ** (numbers["bits"] - 1))
        if len(node.input) > 3:
            zeros = unpack(arrays[node.input[3]].reshape(rows, -1), numbers["bits"])[:, :blocks]
        values = (scales[..., None] * (levels - zeros[..., None])).reshape(rows, -1).astype(np.float32)
        weights[stored.removesuffix("_rows")] = values[:, : numbers.get("K", values.shape[1])]
    return weights


def unpack(stored: np.ndarray, bits: int) -> np.ndarray:
    if bits == 8:
        return stored.astype(np.int64)
    return np.stack([stored & 15, stored >> 4], axis=-1).reshape(*stored.shape[:-1], -1).astype(np.int64)


def narrow(values: np.ndarray, heads: int, size: int, *, rotary: bool) -> np.ndarray:
    """Take the padding out of heads along the first axis."""
    wide = values.reshape(heads, -1, *values.shape[1:])
    half = wide.shape[1] // 2
    kept = [*range(size // 2), *range(half, half + size // 2)] if rotary else list(range(size))
    mask = np.ones(wide.shape[1], bool)
    mask[kept] = False
    assert not wide[:, mask].any()
    return wide[:, kept].reshape(heads * size, *values.shape[1:])


def checkpoint_weights(weights: dict[str, np.ndarray], config: Any) -> dict[str, np.ndarray]:
    """Split what the graph packs: the tensors that a checkpoint of these weights would hold."""
    found = {}
    heads, kv, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    for name, values in weights.items():
        if "attn.qkv_proj" in name:
            wide = values.shape[0] // (heads + 2 * kv)
            packed = np.split(values, [heads * wide, (heads + kv) * wide])
            for one, count, part in zip("qkv", (heads, kv, kv), packed, strict=True):
                key = name.replace("attn.qkv_proj", f"self_attn.{one}_proj")
                found[key] = narrow(part, count, size, rotary=one != "v")
        elif "attn.o_proj.weight" in name:
            key = name.replace("attn.o_proj", "self_attn.o_proj")
            found[key] = narrow(values.T, heads, size, rotary=False).T
        else:
            found[name.replace("attn.o_proj", "self_attn.o_proj")] = values
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_package_computes_with_the_weights_that_it_holds(name: str, tmp_path: Path) -> None:
    """With float32 activations: packing, padding, ties, biases, block tails and zero points are all exact."""
    precision, numbers, options = CASES[name]
    model = make_checkpoint(tmp_path / "checkpoint", **numbers)
    original = {key: values.clone() for key, values in model.state_dict().items()}
    package = zoo.build(
        tmp_path / "checkpoint", precision, output=tmp_path / "package", quantizer_options=options,
        target_options={"accuracy_level": 1}, smoothing="none",
    ).path  # fmt: skip
    held = checkpoint_weights(dequantize(package), model.config)
    state = {
        key: torch.from_numpy(np.ascontiguousarray(values[:, : original[key].shape[1]] if values.ndim == 2 else values))
        for key, values in held.items()
    }
    if numbers.get("tie_word_embeddings"):
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    assert state.keys() == original.keys()
    for key, values in state.items():
        if values.ndim == 1:
            assert torch.equal(values, original[key]), key
        else:
            step = 2 * original[key].abs().max() / (255 if precision == "int8" else 15)
            assert (values - original[key]).abs().max() <= step, key
    model.load_state_dict(state)
    tokens = prompt(40, model.config.vocab_size)
    with torch.no_grad():
        wanted = model(torch.tensor([tokens])).logits[0].numpy()
    stepping = Stepping(package)
    assert np.abs(stepping.step(tokens, keep=0) - wanted).max() <= 1e-3
    stepping.reset()
    stepping.step(tokens[:30])
    assert np.abs(stepping.step(tokens[30:], keep=0) - wanted[30:]).max() <= 1e-3


@pytest.mark.parametrize(("precision", "bound"), [("int8", 0.05), ("int4", 0.35)])
def test_default_packages_stay_close(precision: str, bound: float, tmp_path: Path) -> None:
    """8-bit activations as well: the error of the logits against their spread, on weights that forgive nothing."""
    model = make_checkpoint(tmp_path / "checkpoint", hidden_size=128, initializer_range=0.08)
    package = Stepping(zoo.build(tmp_path / "checkpoint", precision, output=tmp_path / "package").path)
    tokens = prompt(100)
    with torch.no_grad():
        wanted = model(torch.tensor([tokens])).logits[0].numpy()
    error = np.sqrt(np.mean((package.step(tokens, keep=0) - wanted) ** 2)) / wanted.std()
    assert 0 < error <= bound
