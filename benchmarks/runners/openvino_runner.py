"""Time loading, prefill and decode of a package in openvino-genai.  Runs in the peer's own environment.

    openvino_runner.py PACKAGE PROMPT NEW REPEATS THREADS VOCAB

The first of REPEATS + 1 generations is not counted.  Prefill is the library's own time to first token, decode its
mean time per token after it.
"""

import json
import sys
import time

import numpy as np
import openvino as ov
import openvino_genai as genai

package, (prompt, new, repeats, threads, vocab) = sys.argv[1], map(int, sys.argv[2:7])
start = time.perf_counter()
pipeline = genai.LLMPipeline(package, "CPU", INFERENCE_NUM_THREADS=threads)
load = time.perf_counter() - start
config = genai.GenerationConfig()
config.max_new_tokens = config.min_new_tokens = new
config.ignore_eos = True
config.do_sample = config.apply_chat_template = False
prefill, decode = [], []
for seed in range(repeats + 1):
    ids = np.random.default_rng(seed).integers(300, vocab, (1, prompt)).astype(np.int64)
    metrics = pipeline.generate(ov.Tensor(ids), config).perf_metrics
    prefill.append(prompt / metrics.get_ttft().mean * 1e3)
    decode.append(1e3 / metrics.get_tpot().mean)
print(json.dumps({"load_s": load, "prefill_tok_s": prefill[1:], "decode_tok_s": decode[1:]}))
