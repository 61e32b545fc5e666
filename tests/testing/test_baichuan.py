"""The bundled plugin baichuan, by the conformance kit; the reference is written from the papers."""

import json
import math

import torch
from safetensors.torch import load_file
from torch.nn.functional import normalize, silu

from zoo.testing import *  # noqa: F403

PLUGIN = "baichuan"


def slopes(heads):
    """ALiBi (arXiv 2108.12409, section 3): a geometric sequence; behind a power of two, every other of the next."""
    whole = 2 ** math.floor(math.log2(heads))
    first = [2 ** (-8 * (at + 1) / whole) for at in range(whole)]
    return (first + [2 ** (-8 * (at + 1) / (2 * whole)) for at in range(0, 2 * whole, 2)])[:heads]


def REFERENCE(folder, ids):
    """Baichuan 2 (arXiv 2309.10305, section 2): LLaMA with NormHead, and ALiBi where only a length is stated."""
    config, w = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    heads, hidden, n = config["num_attention_heads"], config["hidden_size"], len(ids)
    size, places = hidden // heads, torch.arange(n)
    unseen = torch.ones(n, n).triu(1).bool()
    if alibi := "max_position_embeddings" not in config:
        falls = -torch.tensor(slopes(heads))[:, None, None] * (places[:, None] - places)
    angles = places[:, None] * 10000.0 ** (-torch.arange(0, size, 2) / size)
    turn = torch.polar(torch.ones_like(angles), angles)

    def norm(x, name):
        return x * (x.pow(2).mean(-1, keepdim=True) + config["rms_norm_eps"]).rsqrt() * w[name]

    def turned(x):
        pairs = torch.complex(*x.chunk(2, -1)) * turn
        return torch.cat([pairs.real, pairs.imag], -1)

    x = w["model.embed_tokens.weight"][torch.tensor(ids)]
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        packed = norm(x, f"{at}input_layernorm.weight") @ w[f"{at}self_attn.W_pack.weight"].T
        q, k, v = (part.reshape(n, heads, size).transpose(0, 1) for part in packed.chunk(3, -1))
        scores = q @ k.mT + falls * size**0.5 if alibi else turned(q) @ turned(k).mT
        mixed = (scores / size**0.5).masked_fill(unseen, -torch.inf).softmax(-1) @ v
        x = x + mixed.transpose(0, 1).reshape(n, hidden) @ w[f"{at}self_attn.o_proj.weight"].T
        y = norm(x, f"{at}post_attention_layernorm.weight")
        wide = silu(y @ w[f"{at}mlp.gate_proj.weight"].T) * (y @ w[f"{at}mlp.up_proj.weight"].T)
        x = x + wide @ w[f"{at}mlp.down_proj.weight"].T
    return (norm(x, "model.norm.weight") @ normalize(w["lm_head.weight"]).T).numpy()
