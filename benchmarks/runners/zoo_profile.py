"""Profile decoding in zoo's engine: which kernels the time of a step goes to.

    zoo_profile.py PACKAGE PROMPT NEW VOCAB

onnxruntime's own profiler times every kernel; it costs a little, so these steps are slower than others.  Prints the
milliseconds of a step by kernel, of the whole step as onnxruntime sees it, and as the engine's caller does.
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import zoo

package, (prompt, new, vocab) = sys.argv[1], map(int, sys.argv[2:])
sessions: list[Any] = []


class Profiled(onnxruntime.InferenceSession):
    """A session that writes a profile, whoever opens it."""

    def __init__(self, path: str, options: Any, **more: Any) -> None:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        super().__init__(path, options, **more)
        sessions.append(self)


with tempfile.TemporaryDirectory() as folder:
    onnxruntime.InferenceSession = Profiled
    engine = zoo.open(package)
    ids = [1, *map(int, np.random.default_rng(0).integers(300, vocab, prompt - 1))]
    timings = engine.generate(ids, max_new_tokens=new, ignore_eos=True).timings
    events = json.loads(Path(sessions[0].end_profiling()).read_text())  # another one may have taken the prompt
steps = sorted((one["ts"], one["dur"]) for one in events if one.get("name") == "model_run")[1 - new :]
begin = steps[0][0]
kernels: Counter[str] = Counter()
for one in events:
    if one.get("cat") == "Node" and one["name"].endswith("_kernel_time") and one["ts"] >= begin:
        kernels[one["args"]["op_name"]] += one["dur"]
count = len(steps) * 1e3
found = {name: duration / count for name, duration in kernels.most_common()}
print(json.dumps({"kernel_ms": found, "step_ms": sum(duration for _, duration in steps) / count,
                  "caller_ms": timings.decode_s / timings.decode_tokens * 1e3}))  # fmt: skip
