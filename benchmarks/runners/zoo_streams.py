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
from functools import partial
from typing import Any

import numpy as np

import zoo
from zoo.engine.generation import Limits
from zoo.engine.scheduler import Scheduler

package, (prompt, new, vocab, *streams) = sys.argv[1], map(int, sys.argv[2:])
engine = zoo.open(package)
EXTRA = 8
"""How many times NEW a stream may run on while others are still at their prompts."""


class Race:
    """Requests under way; watches, in the scheduler's own thread, until each has NEW tokens more than at the start.

    A thread that looks now and then would take a processor from the engine, or never get one.
    """

    def __init__(self, scheduler: Scheduler, count: int, tokens: int, seed: int, stop: bool = False) -> None:
        random = np.random.default_rng(seed)
        self.times: list[list[float]] = [[] for _ in range(count)]
        self.stop = stop
        self.tickets: list[Any] = []
        for index in range(count):
            ids = [1, *map(int, random.integers(300, vocab, prompt - 1))]
            watch = partial(self.watch, index)
            self.tickets.append(scheduler.submit(ids, Limits(max_new_tokens=tokens), on_piece=watch))
        for one in self.tickets:
            one.result()

    def watch(self, index: int, piece: Any) -> None:
        """Note a token; call everything off once enough of them came while all decode."""
        if piece.token_id is not None:
            self.times[index].append(time.perf_counter())
        if self.stop and all(self.times) and min(map(len, self.together())) >= new:
            for one in self.tickets:
                one.cancel()

    def together(self) -> list[list[float]]:
        """Return when tokens came after all of the requests had their first."""
        begin = max(one[0] for one in self.times)
        return [[at for at in one if at > begin] for one in self.times]


def all_decoding(count: int) -> float:
    """Tokens a second of all streams together, while all of them decode."""
    with Scheduler(engine, slots=count, prefix_cache_bytes=0) as scheduler:
        race = Race(scheduler, count, new * EXTRA, seed=count, stop=True)
    begin, later = max(one[0] for one in race.times), race.together()
    if min(map(len, later)) < new:
        raise SystemExit("a stream ended before all of them decoded: the prompts take too long")
    return count * new / (max(one[new - 1] for one in later) - begin)


def whole(count: int) -> float:
    """Prompt and new tokens a second, from the first submission to the last end."""
    with Scheduler(engine, slots=count, prefix_cache_bytes=0) as scheduler:
        tickets = Race(scheduler, count, new, seed=1000 + count).tickets
    span = max(one.finished for one in tickets) - min(one.submitted for one in tickets)
    return count * (prompt + new) / span


with Scheduler(engine, slots=1, prefix_cache_bytes=0) as warm_up:
    Race(warm_up, 1, 4, seed=0)
print(json.dumps({str(count): {"decode_tok_s": all_decoding(count), "total_tok_s": whole(count)} for count in streams}))
