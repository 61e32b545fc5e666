"""Measure how fast this machine reads memory: a buffer as large as the weights of a step, by as many threads.

    read_memory.py BYTES THREADS REPEATS

Each thread finds the largest of the 32-bit integers in its own part: one pass, vector loads, no writes.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

size, threads, repeats = map(int, sys.argv[1:4])
buffer = np.arange(size // 4, dtype=np.int32)  # written once, so that every page is there
parts = np.array_split(buffer, threads)
rates = []
with ThreadPoolExecutor(threads) as pool:
    for _ in range(repeats):
        start = time.perf_counter()
        list(pool.map(np.maximum.reduce, parts))
        rates.append(buffer.nbytes / (time.perf_counter() - start) / 1e9)
print(json.dumps({"read_gb_s": rates}))
