"""Time loading, prefill and decode of a package in onnxruntime-genai.  Runs in the peer's own environment.

    genai_runner.py PACKAGE PROMPT NEW REPEATS THREADS VOCAB

The first of REPEATS + 1 generations is not counted.  Prefill ends with the first new token; decode is the tokens after
it.  THREADS is left to the library's default, which
is one per physical core.
"""

import json
import sys
import time

import numpy as np
import onnxruntime_genai as og

package, (prompt, new, repeats, _, vocab) = sys.argv[1], map(int, sys.argv[2:7])
start = time.perf_counter()
model = og.Model(package)
load = time.perf_counter() - start
prefill, decode = [], []
for seed in range(repeats + 1):
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=prompt + new, min_length=prompt + new, do_sample=False)
    generator = og.Generator(model, params)
    ids = np.random.default_rng(seed).integers(300, vocab, prompt).astype(np.int32)
    start = time.perf_counter()
    generator.append_tokens(ids)
    generator.generate_next_token()
    prefill.append(prompt / (time.perf_counter() - start))
    start = time.perf_counter()
    count = 0
    while count < new - 1 and not generator.is_done():
        generator.generate_next_token()
        count += 1
    decode.append(count / (time.perf_counter() - start))
    del generator
print(json.dumps({"load_s": load, "prefill_tok_s": prefill[1:], "decode_tok_s": decode[1:]}))
