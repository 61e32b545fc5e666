"""Time two requests that share the beginning of their prompts, in zoo's engine.

    zoo_prefix.py PACKAGE SHARED OWN REPEATS VOCAB

Prints the time to first token of the first and of the second, each repeat with another beginning.
"""

import json
import sys

import numpy as np

import zoo
from zoo.engine.generation import Limits
from zoo.engine.scheduler import Scheduler

package, (shared, own, repeats, vocab) = sys.argv[1], map(int, sys.argv[2:])
engine = zoo.open(package)
scheduler = Scheduler(engine, slots=2)
random = np.random.default_rng(0)


def ids(count: int) -> list[int]:
    return list(map(int, random.integers(300, vocab, count)))


def ttft(prompt: list[int]) -> tuple[float, int]:
    ticket = scheduler.submit(prompt, Limits(max_new_tokens=2), on_piece=lambda piece: None)
    ticket.result()
    return ticket.first_token - ticket.submitted, ticket.cached_tokens


ttft(ids(16))  # warm-up
first, second, cached = [], [], []
for _ in range(repeats):
    beginning = [1, *ids(shared - 1)]
    first.append(ttft(beginning + ids(own))[0] * 1000)
    later, count = ttft(beginning + ids(own))
    second.append(later * 1000)
    cached.append(count)
scheduler.close()
print(json.dumps({"first_ttft_ms": first, "second_ttft_ms": second, "cached_tokens": cached}))
