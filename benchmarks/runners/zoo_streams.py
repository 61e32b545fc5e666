"""Time several requests at once in zoo's engine.

    zoo_streams.py PACKAGE PROMPT NEW VOCAB STREAMS...

For each number of streams, two figures, as llama.cpp's batched bench gives them. `decode_tok_s`: new tokens a second
while all streams decode, over NEW steps from when the last of them has its first token; the others have decoded
meanwhile and go on, so that nobody's place is empty. `total_tok_s`: prompt and new tokens of requests of exactly NEW
tokens, over the time from the first's submission to the last's end.
"""

import json
import sys
import time
from typing import Any

import numpy as np

import zoo
from zoo.engine.generation import Limits
from zoo.engine.scheduler import Scheduler

package, (prompt, new, vocab, *streams) = sys.argv[1], map(int, sys.argv[2:])
engine = zoo.open(package)
EXTRA = 8
"""How many times NEW a stream may run on while others are still at their prompts."""


def submit(scheduler: Scheduler, count: int, tokens: int, seed: int) -> list[Any]:
    """Submit random prompts; the model's own end of text ends none."""
    random = np.random.default_rng(seed)
    prompts = [[1, *map(int, random.integers(300, vocab, prompt - 1))] for _ in range(count)]
    return [scheduler.submit(one, Limits(max_new_tokens=tokens), on_piece=lambda piece: None) for one in prompts]


def all_decoding(count: int) -> float:
    """Tokens a second of all streams together, while all of them decode."""
    scheduler = Scheduler(engine, slots=count, prefix_cache_bytes=0)
    tickets = submit(scheduler, count, new * EXTRA, seed=count)
    while not all(one.first_token for one in tickets):
        time.sleep(0.01)
    begin = max(one.first_token for one in tickets)
    while min(sum(at > begin for at in list(one.token_times)) for one in tickets) < new:
        if any(one.finished for one in tickets):
            raise SystemExit("a stream ended before all of them decoded: the prompts take too long")
        time.sleep(0.01)
    for one in tickets:
        one.cancel()
    scheduler.close()
    ends = [[at for at in one.token_times if at > begin][new - 1] for one in tickets]
    return count * new / (max(ends) - begin)


def whole(count: int) -> float:
    """Prompt and new tokens a second, from the first submission to the last end."""
    scheduler = Scheduler(engine, slots=count, prefix_cache_bytes=0)
    tickets = submit(scheduler, count, new, seed=1000 + count)
    for one in tickets:
        one.result()
    scheduler.close()
    span = max(one.finished for one in tickets) - min(one.submitted for one in tickets)
    return count * (prompt + new) / span


submitted = Scheduler(engine, slots=1, prefix_cache_bytes=0)
for ticket in submit(submitted, 1, 4, seed=0):  # warm-up
    ticket.result()
submitted.close()
print(json.dumps({str(count): {"decode_tok_s": all_decoding(count), "total_tok_s": whole(count)} for count in streams}))
