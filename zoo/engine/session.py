"""One ONNX Runtime session over a package, with the KV cache in place.

Past and present of every layer are bound to one buffer, so that a step appends its keys and values where they stay; a
step costs the multiplications and nothing else.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from zoo.errors import ZooError

CHUNK = 512
"""Tokens of a prompt that one step takes: bounds the memory of activations, and costs no speed."""
FIRST_CAPACITY = 256


def physical_threads() -> int:
    """Count the processors that this process may use: affinity, and the cgroup's share of time."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return count


class Session:
    """A loaded graph and its one sequence: tokens go in, logits come out, the cache grows.

    Args:
        folder: the package.
        threads: worker threads of a step; by default one a processor.

    Raises:
        ZooError: onnxruntime cannot open the graph.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        started = time.perf_counter()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or physical_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.prepack.enable_parallel", "1")
        try:
            self._session: Any = ort.InferenceSession(
                str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ZooError(f"{folder.name}: onnxruntime cannot open it: {' '.join(str(error).split())[:300]}") from None
        self.load_seconds = time.perf_counter() - started
        self.context = _context_length(folder)
        self.length = 0
        """Tokens in the cache."""
        self._shapes = {
            one.name: (one.shape[1], one.shape[3])
            for one in self._session.get_inputs()
            if one.name.startswith("past_key_values.")
        }
        output = next((one for one in self._session.get_outputs() if one.name == "logits"), None)
        if output is None or not self._shapes:
            raise ZooError(f"{folder.name}: its graph has no logits or no KV cache; it is no decoder")
        self.vocab_size = int(output.shape[2])
        self._mask = np.ones((1, self.context), np.int64)
        self._keep = {1: _on_cpu(np.array([1], np.int64))}
        self._buffers: dict[str, NDArray[np.float32]] = {}
        self._values: dict[str, Any] = {}
        self._capacity = 0
        self._binding: Any = None
        self._token = np.zeros((1, 1), np.int64)
        self._last = np.zeros((1, 1, self.vocab_size), np.float32)

    @property
    def kv_bytes(self) -> int:
        """Bytes of KV cache that one token takes."""
        return sum(heads * size * 4 for heads, size in self._shapes.values())

    def reset(self, length: int = 0) -> None:
        """Forget all but the first ``length`` tokens."""
        self.length = min(length, self.length)

    def _reserve(self, length: int) -> None:
        """Make room for ``length`` tokens; buffers double, up to the context."""
        if length <= self._capacity:
            return
        capacity = max(FIRST_CAPACITY, self._capacity)
        while capacity < length:
            capacity *= 2
        capacity = min(capacity, self.context)
        try:
            for name, (heads, size) in self._shapes.items():
                grown = np.zeros((1, heads, capacity, size), np.float32)
                if self.length:
                    grown[:, :, : self.length] = self._buffers[name][:, :, : self.length]
                self._buffers[name] = grown
        except MemoryError:
            raise ZooError(f"a KV cache of {capacity} tokens needs {capacity * self.kv_bytes:,} bytes") from None
        self._capacity = capacity
        self._binding = self._session.io_binding()
        for name, buffer in self._buffers.items():
            value = self._values[name] = ort.OrtValue.ortvalue_from_numpy(buffer)
            self._binding.bind_ortvalue_input(name, value)
            self._binding.bind_ortvalue_output(name.replace("past_key_values", "present"), value)

    def step(self, tokens: Sequence[int] | NDArray[np.int64], keep: int = 1) -> NDArray[np.float32]:
        """Append tokens to the sequence and compute.

        Args:
            tokens: ids, one or several.
            keep: of how many of the last positions to return logits.

        Returns:
            Logits, float32 (keep, vocab); with one token, a buffer that the next step overwrites.
        """
        count = len(tokens)
        total = self.length + count
        if total > self.context:
            raise ZooError(f"{total} tokens are more than the context of {self.context}")
        self._reserve(total)
        binding = self._binding
        if count == 1:
            self._token[0, 0] = tokens[0]
            ids = self._token
        else:
            ids = np.asarray(tokens, np.int64)[None]
        binding.bind_cpu_input("input_ids", ids)
        mask = np.ascontiguousarray(self._mask[:, :total])
        binding.bind_cpu_input("attention_mask", mask)
        if keep not in self._keep:
            self._keep = {1: self._keep[1], keep: _on_cpu(np.array([keep], np.int64))}
        binding.bind_ortvalue_input("num_logits_to_keep", self._keep[keep])
        logits = self._last if keep == 1 else np.empty((1, keep, self.vocab_size), np.float32)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise ZooError(f"onnxruntime failed: {' '.join(str(error).split())[:300]}") from None
        self.length = total
        return logits[0]

    def prefill(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Append a prompt in chunks and return the last position's logits, float32 (vocab,)."""
        ids = np.asarray(tokens, np.int64)
        last: NDArray[np.float32] = self._last[0]
        for start in range(0, len(ids), CHUNK):
            last = self.step(ids[start : start + CHUNK])
        return last[0]


def _on_cpu(array: NDArray[Any]) -> Any:
    return ort.OrtValue.ortvalue_from_numpy(array)


def _context_length(folder: Path) -> int:
    """Read how many positions the graph serves, from ``genai_config.json``."""
    try:
        return int(json.loads((folder / "genai_config.json").read_bytes())["model"]["context_length"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ZooError(f"{folder.name}/genai_config.json: does not state a context length; build it again") from None
