"""Time plain decoding and prompt lookup on one prompt, in turns, in zoo's engine; the tokens must be the same.

    zoo_lookup.py PACKAGE PROMPT_JSON NEW REPEATS

PROMPT_JSON holds a text, or a list of token ids.
"""

import json
import sys
from pathlib import Path
from typing import Any

import zoo
from zoo.engine.generation import Limits
from zoo.engine.scheduler import Scheduler

package, prompt, new, repeats = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), *map(int, sys.argv[3:])
engine = zoo.open(package)
ids = engine.encode(prompt) if isinstance(prompt, str) else prompt


def once(lookup: bool, tokens: int = new) -> Any:
    scheduler = Scheduler(engine, slots=1, prefix_cache_bytes=0, lookup=lookup)
    ticket = scheduler.submit(ids, Limits(max_new_tokens=tokens), on_piece=lambda piece: None)
    ticket.result()
    scheduler.close()
    return ticket


def speed(ticket: Any) -> float:
    return (len(ticket.token_times) - 1) / (ticket.token_times[-1] - ticket.token_times[0])


once(False, 2)
plain, lookup, equal = [], [], 0
for _ in range(repeats):
    one, other = once(False), once(True)
    plain.append(speed(one))
    lookup.append(speed(other))
    pairs = zip(one.generation.token_ids, other.generation.token_ids, strict=False)
    equal = sum(1 for mine, theirs in pairs if mine == theirs)
print(json.dumps({"plain_tok_s": plain, "lookup_tok_s": lookup, "prompt_tokens": [len(ids)], "tokens": [new],
                  "equal_tokens": [equal]}))  # fmt: skip
