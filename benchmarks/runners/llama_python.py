"""Use a llama library through its Python bindings: logits of a GGUF file, or how fast it is.

    llama_python.py logits LIBRARY MODEL.gguf TOKENS.npy LOGITS.npy
    llama_python.py run LIBRARY MODEL.gguf PROMPT NEW REPEATS THREADS VOCAB

LIBRARY is `ik`, or the build folder inside the sources of llama-cpp-python.  TOKENS is [windows, length]; LOGITS
becomes float32 [windows, length, vocab].  The first of REPEATS + 1 generations is not counted; prefill ends with the
first new token, decode is the tokens after it.
"""

import json
import os
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np

what, library, model, *rest = sys.argv[1:]
if library == "ik":
    import ik_llama_cpp._ctypes_api as c
else:
    os.environ["LLAMA_CPP_LIB_PATH"] = str(Path(library) / "bin")
    package = types.ModuleType("llama_cpp")  # its ctypes alone: the rest of the package wants more than is installed
    package.__path__ = [str(Path(library).parents[2] / "llama_cpp")]
    sys.modules["llama_cpp"] = package
    from llama_cpp import llama_cpp as c

    silent = c.llama_log_callback(lambda *_: None)  # kept, since the library calls it
    c.llama_log_set(silent, None)


class Model:
    """A file, opened for texts of at most `context` tokens."""

    def __init__(self, path: str, context: int, threads: int) -> None:
        c.llama_backend_init()
        given = c.llama_model_default_params()
        if hasattr(given, "repack_tensors"):
            given.repack_tensors, given.use_mmap = True, False
        self.model = c.llama_model_load_from_file(path.encode(), given)
        asked = c.llama_context_default_params()
        asked.n_ctx = asked.n_batch = asked.n_ubatch = context
        asked.n_threads = asked.n_threads_batch = threads
        self.context = c.llama_init_from_model(self.model, asked)
        if not self.context:
            raise SystemExit(f"{path}: cannot be opened")
        self.vocab = int(c.llama_vocab_n_tokens(c.llama_model_get_vocab(self.model)))
        self.batch = c.llama_batch_init(context, 0, 1)

    def clear(self) -> None:
        """Forget all tokens."""
        if library == "ik":
            c.llama_kv_cache_clear(self.context)
        else:
            c.llama_memory_clear(c.llama_get_memory(self.context), True)

    def decode(self, tokens: Any, start: int, everywhere: bool = False) -> None:
        """Compute tokens that follow `start` earlier ones; logits of the last, or of all."""
        self.batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            self.batch.token[index], self.batch.pos[index] = int(token), start + index
            self.batch.n_seq_id[index], self.batch.seq_id[index][0] = 1, 0
            self.batch.logits[index] = everywhere or index == len(tokens) - 1
        if c.llama_decode(self.context, self.batch):
            raise SystemExit("llama_decode failed")

    def logits(self, index: int) -> np.ndarray:
        """Logits after a token of the last batch, (vocab,)."""
        return np.ctypeslib.as_array(c.llama_get_logits_ith(self.context, index), (self.vocab,))


if what == "logits":
    windows = np.load(rest[0])
    opened = Model(model, windows.shape[1], int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    out = np.lib.format.open_memmap(rest[1], "w+", np.float32, (*windows.shape, opened.vocab))
    for number, window in enumerate(windows):
        opened.clear()
        opened.decode(window, 0, everywhere=True)
        for index in range(len(window)):
            out[number, index] = opened.logits(index)
else:
    prompt, new, repeats, threads, vocab = map(int, rest)
    start = time.perf_counter()
    opened = Model(model, prompt + new, threads)
    load = time.perf_counter() - start
    prefill, decode = [], []
    for seed in range(repeats + 1):
        opened.clear()
        start = time.perf_counter()
        opened.decode(np.random.default_rng(seed).integers(300, vocab, prompt), 0)
        token = int(opened.logits(prompt - 1 if library != "ik" else -1).argmax())
        prefill.append(prompt / (time.perf_counter() - start))
        start = time.perf_counter()
        for step in range(new - 1):
            opened.decode([token], prompt + step)
            token = int(opened.logits(0).argmax())
        decode.append((new - 1) / (time.perf_counter() - start))
    print(json.dumps({"load_s": load, "prefill_tok_s": prefill[1:], "decode_tok_s": decode[1:]}))
