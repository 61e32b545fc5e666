"""A package's graph under plain onnxruntime, as any other program would run it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort


class Stepping:
    """One sequence: tokens in, logits out, the KV cache handed from call to call."""

    def __init__(self, folder: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self.outputs = [one.name for one in self.session.get_outputs()]
        self.caches = {one.name: one.shape for one in self.session.get_inputs() if one.name.startswith("past_")}
        self.reset()

    def reset(self) -> None:
        self.length = 0
        self.past = {name: np.zeros((1, shape[1], 0, shape[3]), np.float32) for name, shape in self.caches.items()}

    def step(self, tokens: Sequence[int], keep: int | None = None) -> np.ndarray:
        """Append tokens; logits (positions, vocab) of the last ``keep``: 0 for all, None to leave the input out."""
        self.length += len(tokens)
        feeds = {
            "input_ids": np.array([tokens], np.int64),
            "attention_mask": np.ones((1, self.length), np.int64),
            **self.past,
        }
        if keep is not None:
            feeds["num_logits_to_keep"] = np.array([keep], np.int64)
        found = dict(zip(self.outputs, self.session.run(self.outputs, feeds), strict=True))
        self.past = {name: found[name.replace("past_key_values", "present")] for name in self.caches}
        return found["logits"][0]

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """The next ``count`` tokens, one step each."""
        self.reset()
        tokens = [int(self.step(prompt)[-1].argmax())]
        while len(tokens) < count:
            tokens.append(int(self.step(tokens[-1:])[-1].argmax()))
        return tokens


def prompt(length: int, vocab: int = 331, seed: int = 0) -> list[int]:
    """Seeded random tokens."""
    return np.random.default_rng(seed).integers(0, vocab, length).tolist()
