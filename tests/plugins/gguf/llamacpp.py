"""llama.cpp's own tokenizer over a vocabulary: a GGUF file with a tiny model around it, asked over HTTP."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.plugins.gguf.made import add

HIDDEN, HEADS = 32, 2


def write(
    path: Path, metadata: Mapping[str, Any], arch: str = "llama", more: Mapping[str, tuple[int, ...]] | None = None
) -> Path:
    """Write a GGUF file of one random layer with this tokenizer, and ``more`` tensors of these shapes in the layer."""
    import gguf

    writer = gguf.GGUFWriter(str(path), arch)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(metadata["tokenizer.ggml.tokens"]))
    for key, value in metadata.items():
        add(writer, key, value)
    draw = np.random.default_rng(0)
    vocab = len(metadata["tokenizer.ggml.tokens"])
    shapes = {"token_embd": (vocab, HIDDEN), "output": (vocab, HIDDEN), "output_norm": (HIDDEN,)}
    shapes |= {f"blk.0.{name}": (HIDDEN,) for name in ("attn_norm", "ffn_norm")}
    linear = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes |= {f"blk.0.{name}": (HIDDEN, HIDDEN) for name in linear}
    shapes |= {f"blk.0.{name}": shape for name, shape in (more or {}).items()}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", draw.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def encoder(path: Path) -> Callable[[str], list[int]]:
    """Open a file and return its encoder: what the model puts around a text, special tokens read as such."""
    server = _server(path)

    def encode(text: str) -> list[int]:
        ids: list[int] = _ask(server, "tokenize", {"content": text, "add_special": True, "parse_special": True})[
            "tokens"
        ]
        return ids

    return encode


def continuation(path: Path, prompt: list[int], count: int) -> list[int]:
    """Open a file and continue a prompt greedily, past what ends a text."""
    body = {
        "prompt": prompt,
        "n_predict": count,
        "temperature": 0,
        "top_k": 1,
        "return_tokens": True,
        "ignore_eos": True,
    }
    tokens: list[int] = _ask(_server(path), "completion", body)["tokens"]
    return tokens


def _server(path: Path) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # more wait for each other on a busy machine
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.n_gpu_layers, params.warmup = 64, 1, 0, False
    params.hostnames, params.port, params.verbosity = ["127.0.0.1"], 0, -1
    return xllamacpp.Server(params)


def _ask(server: Any, what: str, body: Mapping[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{server.listening_address}/{what}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)
