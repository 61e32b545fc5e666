"""llama.cpp's own tokenizer over a vocabulary: a GGUF file with a tiny model around it, asked over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.request
import weakref
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
    server = Server(path)

    def encode(text: str) -> list[int]:
        ids: list[int] = server.ask("tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
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
    tokens: list[int] = Server(path).ask("completion", body)["tokens"]
    return tokens


def embeddings(path: Path, texts: list[str]) -> tuple[np.ndarray, int]:
    """Open an encoder's file and return a vector for each text, and how many tokens were read."""
    answer = Server(path, embedding=True).ask("v1/embeddings", {"input": texts})
    return np.array([row["embedding"] for row in answer["data"]]), answer["usage"]["prompt_tokens"]


SERVE = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # more wait for each other on a busy machine
params.model.path, params.embedding, params.n_ctx = sys.argv[1], sys.argv[2] == "True", int(sys.argv[3])
params.n_parallel, params.n_gpu_layers, params.warmup = 1, 0, False
params.hostnames, params.port, params.verbosity = ["127.0.0.1"], 0, -1
server = xllamacpp.Server(params)
print("\\n" + server.listening_address, flush=True)
sys.stdin.read()
"""


class Server:
    """llama.cpp's server over a file, in a process that is killed when this is dropped.

    In a process of its own, since its threads and PyTorch's wait for each other; killed, since closing the server
    waits forever about once in fifty times on a busy machine (xllamacpp 2026.10).
    """

    def __init__(self, path: Path, *, embedding: bool = False) -> None:
        argv = [sys.executable, "-c", SERVE, str(path), str(embedding), "256" if embedding else "64"]
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
            weakref.finalize(self, _kill, process)
            self.address = _address(process)
            log.seek(0)
            assert self.address, log.read().decode()[-2000:]

    def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """Post a body and return the answer's."""
        request = urllib.request.Request(
            f"{self.address}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)


def _address(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    lines = (line.decode().strip() for line in process.stdout)
    return next((line for line in lines if line.startswith("http://")), "")


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()
