"""Embed the same texts by one program, again and again; print the processor time that each workload takes, as JSON.

embed_peer.py zoo|sentence-transformers|fastembed|llama.cpp MODEL THREADS WORDS.json   (a list of lists of texts)
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LEAST, RUNS = 1.5, 12
"""Seconds of processor time and runs after which a workload is measured."""


def zoo(model: str, threads: int) -> Callable[[list[str]], Any]:
    """Open a package."""
    import zoo

    engine = zoo.open(model, threads=threads)
    return lambda texts: engine.embed(texts).vectors


def sentence_transformers(model: str, threads: int) -> Callable[[list[str]], Any]:
    """Open a checkpoint in float32."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    opened = SentenceTransformer(model, device="cpu")
    return lambda texts: opened.encode(texts, batch_size=32, show_progress_bar=False, normalize_embeddings=True)


def fastembed(model: str, threads: int) -> Callable[[list[str]], Any]:
    """Open a folder with ``model.onnx`` as torch exports it."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    config = json.loads((Path(model) / "config.json").read_text())
    TextEmbedding.add_custom_model(
        "bench/own", PoolingType.MEAN, normalization=True, sources=ModelSource(hf="bench/own"),
        dim=config["hidden_size"], model_file="model.onnx",
    )  # fmt: skip
    opened = TextEmbedding("bench/own", specific_model_path=model, threads=threads)
    return lambda texts: list(opened.embed(texts, batch_size=32))


def llama_cpp(model: str, threads: int) -> Callable[[list[str]], Any]:
    """Open a GGUF file in llama.cpp's server, in this process."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.embedding, params.n_parallel, params.n_ctx = True, 32, 32 * 512
    params.n_batch = params.n_ubatch = 2048
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)

    def embed(texts: list[str]) -> list[list[float]]:
        answer = server.handle_embeddings({"input": texts, "encoding_format": "float"})
        if isinstance(answer, str):
            answer = json.loads(answer)
        return [one["embedding"] for one in answer["data"]]

    return embed


OPENERS = {
    "zoo": zoo, "sentence-transformers": sentence_transformers, "fastembed": fastembed, "llama.cpp": llama_cpp,
}  # fmt: skip


def main() -> None:
    """Run the command line."""
    name, model, threads, words = sys.argv[1:]
    embed = OPENERS[name](model, int(threads))
    times, first = [], None
    for texts in json.loads(Path(words).read_text()):
        made = embed(texts[:2])
        first = first or [round(float(value), 5) for value in made[0][:8]]
        taken: list[float] = []
        while not taken or (sum(taken) < LEAST and len(taken) < RUNS):
            began = time.process_time()
            embed(texts)
            taken.append(time.process_time() - began)
        times.append(min(taken) * 1e3)
    print(json.dumps({"cpu_ms": times, "first": first}), flush=True)
    os._exit(0)  # closing llama.cpp's server waits forever now and then


if __name__ == "__main__":
    main()
